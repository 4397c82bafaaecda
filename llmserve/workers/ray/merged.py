"""What several deployments answer together: lists of models, and readiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.types import Message

from llmserve.errors import LLMServeError

READY: Final = "/health/ready"
LISTS: Final[Mapping[str, str]] = {
    "/v1/models": "data",
    "/models": "data",
    "/api/tags": "models",
    "/api/ps": "models",
    READY: "models",
}
"""The field of a body that has one entry for each model."""
RETRY_SECONDS: Final = "5"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole answer of a deployment."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The fields of its JSON."""
        content: dict[str, Any] = orjson.loads(self.body)
        return content


def whole(messages: Sequence[Message]) -> Whole:
    """The answer that these messages are."""
    start = next(m for m in messages if m["type"] == "http.response.start")
    body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
    return Whole(start["status"], [(k, v) for k, v in start["headers"]], body)


def merged_lists(path: str, answers: Sequence[Whole]) -> Whole:
    """The first answer with everybody's models; a refusal is everybody's."""
    refusal = next((a for a in answers if a.status != HTTPStatus.OK), None)
    if refusal is not None:
        return refusal
    field = LISTS[path]
    content = answers[0].content
    models = [model for answer in answers for model in answer.content[field]]
    content[field] = models
    if "last_id" in content:  # Anthropic's
        content |= {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {}
    return replaced(answers[0], HTTPStatus.OK, content)


def merged_readiness(answers: Mapping[str, Whole | LLMServeError]) -> Whole:
    """Ready if every deployment is; one without a replica that answers is still loading."""
    contents = {
        name: answer.content if isinstance(answer, Whole) else _loading(name, answer)
        for name, answer in answers.items()
    }
    statuses = [content["status"] for content in contents.values()]
    status = next((s for s in statuses if s != "ready"), "ready")
    is_ready = status == "ready"
    body = {
        "status": status,
        "models": [model for content in contents.values() for model in content["models"]],
        "workers": [],
    }
    retry = [] if is_ready else [(b"retry-after", RETRY_SECONDS.encode())]
    code = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return replaced(Whole(code, [(b"content-type", b"application/json"), *retry], b""), code, body)


def replaced(answer: Whole, status: int, content: Any) -> Whole:
    """The answer with another body, a JSON value or text."""
    body = content.encode() if isinstance(content, str) else orjson.dumps(content)
    headers = [(k, v) for k, v in answer.headers if k.lower() != b"content-length"]
    return Whole(status, [*headers, (b"content-length", str(len(body)).encode())], body)


def _loading(name: str, error: LLMServeError) -> dict[str, Any]:
    model = {"name": name, "status": "loading", "running": 0, "waiting": 0, "error": error.message}
    return {"status": "loading", "models": [model]}
