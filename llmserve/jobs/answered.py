"""What a route answered to a line, and the line of a batch's output that tells it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

import orjson

from llmserve.jobs.line import InputLine, Result

TEMPORARY: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses after which a line is tried again, until the window of its batch ends."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A route's whole answer. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the line goes to the output file."""
        return self.status == HTTPStatus.OK

    @property
    def is_temporary(self) -> bool:
        """Whether the same line may succeed later."""
        return self.status in TEMPORARY

    @property
    def retry_after_seconds(self) -> float:
        """How long to wait at least before it is tried again."""
        return float(self.headers.get("retry-after", 0))


class RunLine(Protocol):
    """Asks the server's own route, in the name of a key, as background work."""

    def __call__(
        self, url: str, body: bytes, *, caller: str, request_id: str
    ) -> Awaitable[Answered]:
        """What the route answers, errors included."""
        ...


def told(line: InputLine, answered: Answered) -> Result:
    """The line of the output, or of the error file, with the route's answer in it."""
    response: dict[str, Any] = {
        "status_code": answered.status,
        "request_id": answered.headers.get("x-request-id", ""),
        "body": orjson.Fragment(answered.body),
    }
    ignored = answered.headers.get("x-ignored-fields")
    if ignored is not None:
        response["ignored_fields"] = ignored
    return Result(line.number, answered.is_success, _line(line, response, None))


def failed(line: InputLine, code: str, message: str) -> Result:
    """The line of the error file about a line that no route has answered."""
    return Result(line.number, False, _line(line, None, {"code": code, "message": message}))


def _line(line: InputLine, response: Any, error: Any) -> bytes:
    written = {
        "id": f"batch_req_{uuid.uuid4().hex}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE)
