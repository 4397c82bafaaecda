"""Every error, in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from llmserve.api.edge.json import JSON
from llmserve.api.fields import UNSUPPORTED
from llmserve.api.unsupported import SERVED_ELSEWHERE
from llmserve.errors import (
    BodyTimeout,
    LLMServeError,
    Unauthorized,
    UnsupportedEncoding,
    UpgradeRequired,
)

MAX_SHOWN: Final = 200
"""Characters of a client's own words that an error repeats."""

TRIED_TYPE: Final = re.compile(r"[\[-]")
"""pydantic names the branches of a union like `list[int]` and `constrained-str`."""


class ClientGone(Exception):
    """The client hung up before the answer was ready."""


def error_body(error: LLMServeError) -> dict[str, Any]:
    """The body that tells a client of one of our errors."""
    return _body(error.message, error.type, error.param, error.code)


def error_response(error: LLMServeError) -> Response:
    """The response for one of our errors, with the headers that belong to it."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    match error:
        case Unauthorized():
            headers["WWW-Authenticate"] = "Bearer"
        case UnsupportedEncoding():
            headers["Accept-Encoding"] = "gzip"
        case UpgradeRequired():
            headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        case BodyTimeout():
            headers["Connection"] = "close"  # what is left of the body must not be a request
    return JSON(error_body(error), status_code=error.status, headers=headers)


def install_error_handlers(app: FastAPI) -> None:
    """Give every way to fail the one shape."""
    app.add_exception_handler(LLMServeError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientGone, _client_gone)


def validation_message(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """What is wrong with a body, and the field at fault, from pydantic's errors."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"the body is not valid JSON: {first['ctx']['error']}", None
    if first["type"] == UNSUPPORTED:
        field = first["ctx"]["field"]
        param = _param((*first["loc"], field), is_extra=True)
        if field not in SERVED_ELSEWHERE:
            return f"{param!r} is not supported by this server; leave it out", param
        return not_a_field(param), param
    is_extra = first["type"] == "extra_forbidden"
    param = _param(first["loc"], is_extra=is_extra)
    if is_extra:
        return not_a_field(param), param
    message = str(first["msg"]).removeprefix("Value error, ")[:MAX_SHOWN]
    if param is not None:
        return f"{param}: {message}", param
    if first["type"] == "value_error":  # of the body as a whole; it names its fields itself
        return message, None
    return "the body must be a JSON object, sent with `Content-Type: application/json`", None


def not_a_field(param: str | None) -> str:
    """What is wrong with a field that does not belong to a request."""
    return f"{param!r} is not a field of this request; leave it out"


def _param(location: Sequence[str | int], *, is_extra: bool) -> str | None:
    """The field's path, without what pydantic adds: where it looked and which type it tried.

    The last part of an unknown field is the client's own word and stays as it is.
    """
    parts = [str(part) for part in location]
    if parts and parts[0] in {"body", "query"} and not (is_extra and len(parts) == 1):
        parts = parts[1:]
    kept = [
        part
        for i, part in enumerate(parts)
        if i == 0
        or (is_extra and i == len(parts) - 1)
        or not (part == "str" or TRIED_TYPE.search(part))
    ]
    return ".".join(kept)[:MAX_SHOWN] or None


def _body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, LLMServeError)
    return error_response(error)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    message, param = validation_message(error.errors())
    return JSON(
        _body(message, "invalid_request_error", param, "invalid_request"),
        status_code=HTTPStatus.BAD_REQUEST,
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, LLMServeError):  # raised while FastAPI read the body
        return error_response(error.__cause__)
    status = HTTPStatus(error.status_code)
    known = {
        HTTPStatus.NOT_FOUND: (
            f"there is no route {request.method} {request.url.path[:MAX_SHOWN]}; see /docs",
            "not_found_error",
        ),
        HTTPStatus.METHOD_NOT_ALLOWED: (
            f"{request.url.path[:MAX_SHOWN]} does not take {request.method}; see /docs",
            "invalid_request_error",
        ),
    }
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    message, kind = known.get(status, (str(error.detail), kind))
    code = status.phrase.lower().replace(" ", "_")
    return JSON(
        _body(message, kind, None, code), status_code=status, headers=dict(error.headers or {})
    )


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nginx's number for it; seen by our log alone


def no_websocket_response(path: str) -> Response:
    """What a client is told that asks for a WebSocket where there is none."""
    message = f"there is no WebSocket at {path[:MAX_SHOWN]}; see /docs"
    return JSON(
        _body(message, "not_found_error", None, "not_found"), status_code=HTTPStatus.NOT_FOUND
    )


def unexpected_response() -> Response:
    """What a client is told of a bug of ours."""
    return JSON(
        _body("an unexpected error; the log has it under this request's id", "server_error",
              None, "internal_error"),
        status_code=HTTPStatus.INTERNAL_SERVER_ERROR,
    )  # fmt: skip
