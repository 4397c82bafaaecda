"""How the ingress tells an error in the words of the route that was asked. All else is said by the
replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.types import Scope

from llmserve.api.anthropic.error import anthropic_error
from llmserve.api.error_shape import ErrorShape, openai_error
from llmserve.api.ndjson import NDJSON, line
from llmserve.api.ollama.error import ollama_error
from llmserve.api.sse import data, named
from llmserve.api.tgi.error import tgi_error
from llmserve.errors import LLMServeError

NAMED: Final = ("/v1/messages", "/v1/responses", "/responses", "/generate", "/stream", "/admin")
"""Below these, the events of streams have names."""

LAST_EVENTS: Final = frozenset(
    {"done", "error", "message_stop"}
    | {f"response.{end}" for end in ("completed", "incomplete", "failed")}
)
"""After one of these no event comes."""


def path_of(scope: Scope) -> str:
    """A request's path below the application's `route_prefix`."""
    return str(scope["path"]).removeprefix(scope.get("root_path", "").rstrip("/"))


def shape_of(path: str) -> ErrorShape:
    """The shape of errors at this path."""
    if path.startswith("/v1/messages"):
        return anthropic_error
    if path.startswith("/api/"):
        return ollama_error
    if path in {"/", "/generate_stream"}:
        return tgi_error
    return openai_error


def last_words(path: str, content_type: str) -> Callable[[LLMServeError], bytes] | None:
    """What ends a stream of this kind whose replica has died; `None` for a whole body, which can
    only be cut off."""
    shape = shape_of(path)
    if content_type.startswith(NDJSON):
        return lambda error: line(shape(error))
    if not content_type.startswith("text/event-stream"):
        return None
    if path.startswith(NAMED) and path != "/generate_stream":
        return lambda error: named("error", shape(error))
    return lambda error: data(shape(error))


def is_over(content_type: str, frame: bytes) -> bool:
    """Whether a stream whose last frame is this one has told its client how it ended."""
    if content_type.startswith(NDJSON):
        fields = _object(frame)
        return bool(fields.get("done") or fields.get("error"))
    name = payload = b""
    for text in frame.rstrip().rpartition(b"\n\n")[2].split(b"\n"):
        field, _, value = text.partition(b": ")
        name = value if field == b"event" else name
        payload = value if field == b"data" else payload
    if payload == b"[DONE]" or name.decode(errors="replace") in LAST_EVENTS:
        return True
    fields = _object(payload)
    return bool(fields.get("error")) or fields.get("generated_text") is not None


def _object(text: bytes) -> dict[str, Any]:
    """An object's fields, and none if it is something else."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
