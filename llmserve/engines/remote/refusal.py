"""What an upstream's refusal means for the request, and for the upstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from llmserve.errors import (
    BodyTooLarge,
    GenerationFailed,
    InvalidRequest,
    LLMServeError,
    NotReady,
    QueueFull,
    UpstreamFailed,
)
from llmserve.printable import printable

MOST_SHOWN: Final = 500
MOST_RETRY_SECONDS: Final = 3600.0
DEFAULT_RETRY_SECONDS: Final = 2.0
DRAINING_CODE: Final = "shutting_down"
"""This server's own."""
INVALID: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Attributes:
    error: what the caller is told if nobody else answers.
    may_move: whether another upstream may be asked: nothing was generated.
    is_fault: whether it counts against the upstream.
    is_draining: whether it takes no new requests for now, by its operator's will.
    """

    error: LLMServeError
    may_move: bool = False
    is_fault: bool = False
    is_draining: bool = False


def refusal_of(status: int, headers: Mapping[str, str], content: bytes, key: str | None) -> Refusal:
    """From a response that is no answer. `key` never appears in what the caller is told."""
    told = _told(content)
    message = printable(str(told.get("message") or "it gives no reason"))[:MOST_SHOWN]
    if key:
        message = message.replace(key, "(the key)")
    if status in INVALID:
        return Refusal(_invalid(message, told))
    if status in KEY_REFUSED:
        error = UpstreamFailed("the server of this model does not take this server's key for it")
        return Refusal(error, may_move=True, is_fault=True)
    if status == HTTPStatus.NOT_FOUND:
        return Refusal(
            NotReady(f"the server of this model does not serve it: {message}"),
            may_move=True,
            is_fault=True,
        )
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Refusal(BodyTooLarge(message))
    if status in BUSY:
        return _busy(status, message, told.get("code"), _retry_seconds(headers))
    return Refusal(
        UpstreamFailed(f"the server of this model answered {status}: {message}"),
        may_move=status == HTTPStatus.BAD_GATEWAY,
        is_fault=status >= HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def error_in_stream(told: Any) -> LLMServeError:
    """From an error that comes as an event: something may have been generated."""
    fields = told if isinstance(told, dict) else {"message": told}
    message = printable(str(fields.get("message") or "it gives no reason"))[:MOST_SHOWN]
    match fields.get("type"):
        case "invalid_request_error":
            return _invalid(message, fields)
        case "rate_limit_error":
            return QueueFull(message, retry_after_seconds=DEFAULT_RETRY_SECONDS)
        case "service_unavailable_error":
            return NotReady(message, retry_after_seconds=DEFAULT_RETRY_SECONDS)
    return GenerationFailed(f"the server of this model failed: {message}")


def _invalid(message: str, told: dict[str, Any]) -> InvalidRequest:
    param = told.get("param")
    error = InvalidRequest(message, param=param if isinstance(param, str) else None)
    code = told.get("code")
    if isinstance(code, str) and code:
        error.code = printable(code)[:MOST_SHOWN]
    return error


def _busy(status: int, message: str, code: Any, retry_seconds: float) -> Refusal:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        full = QueueFull(
            f"the servers of this model are busy: {message}", retry_after_seconds=retry_seconds
        )
        return Refusal(full, may_move=True)
    return Refusal(
        NotReady(
            f"the servers of this model take nothing now: {message}",
            retry_after_seconds=retry_seconds,
        ),
        may_move=True,
        is_draining=code == DRAINING_CODE,
    )


def _retry_seconds(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:  # absent, or a date
        return DEFAULT_RETRY_SECONDS
    return min(MOST_RETRY_SECONDS, max(0.0, seconds)) if seconds == seconds else 0.0


def _told(content: bytes) -> dict[str, Any]:
    """The error in OpenAI's shape, or in one that is much like it."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, dict) else {"message": error}
