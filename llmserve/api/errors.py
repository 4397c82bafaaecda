"""Every way to fail becomes a response, in the shape of the router that was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from llmserve.api.edge.json import JSON
from llmserve.api.error_shape import ErrorShape, error_shape_of, openai_error
from llmserve.api.validation import MAX_SHOWN, invalid_request
from llmserve.errors import (
    BodyTimeout,
    LLMServeError,
    MethodNotAllowed,
    NotFound,
    RequestError,
    ServerError,
    Unauthorized,
    UnsupportedEncoding,
    UpgradeRequired,
)

REFUSAL: Final = "llmserve.refusal"
"""The scope's key for the error that answers the request."""

MAX_REASON: Final = 300


class ClientGone(Exception):
    """The client hung up before the answer was ready."""


def error_response(
    error: LLMServeError,
    shape: ErrorShape = openai_error,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for one of our errors, with the headers that belong to it."""
    own = {} if headers is None else dict(headers)
    if error.retry_after_seconds is not None:
        own["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    match error:
        case Unauthorized():
            own["WWW-Authenticate"] = "Bearer"
        case UnsupportedEncoding():
            own["Accept-Encoding"] = "gzip"
        case UpgradeRequired():
            own |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        case BodyTimeout():
            own["Connection"] = "close"  # the rest of the body must not be read as a request
    return JSON(shape(error), status_code=error.status, headers=own)


def no_websocket_response(path: str) -> Response:
    """The response to a WebSocket's handshake where no WebSocket is served."""
    return error_response(NotFound(f"there is no WebSocket at {path[:MAX_SHOWN]}; see /docs"))


def unexpected_response(scope: Scope) -> Response:
    """The response after a bug of ours."""
    error = ServerError("an unexpected error; the log has it under this request's id")
    return error_response(error, error_shape_of(scope))


def refusal_fields(scope: Scope) -> dict[str, Any]:
    """The access line's fields for a request that was answered with an error: what its client was
    told, which never has the prompt in it."""
    error: LLMServeError | None = scope.get(REFUSAL)
    if error is None:
        return {}
    param = {} if error.param is None else {"param": error.param}
    return {"code": error.code, **param, "reason": error.message[:MAX_REASON]}


def install_error_handlers(app: FastAPI) -> None:
    """Answer whatever routes, FastAPI and Starlette raise."""
    app.add_exception_handler(LLMServeError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientGone, _client_gone)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, LLMServeError)
    return _refused(request, error)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _refused(request, invalid_request(error.errors(), error.body))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, LLMServeError):  # raised while FastAPI read the body
        return _refused(request, error.__cause__)
    return _refused(request, _of_http(request, error), error.headers)


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nginx's number for it; only our log sees it


def _refused(
    request: Request, error: LLMServeError, headers: Mapping[str, str] | None = None
) -> Response:
    """The response, in the shape that was chosen; the access line says why, too."""
    request.scope[REFUSAL] = error
    return error_response(error, error_shape_of(request.scope), headers)


def _of_http(request: Request, error: HTTPException) -> LLMServeError:
    """One of our errors in place of FastAPI's or Starlette's."""
    path = request.url.path[:MAX_SHOWN]
    status = HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(f"there is no route {request.method} {path}; see /docs")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return MethodNotAllowed(f"{path} does not take {request.method}; see /docs")
    ours: LLMServeError = ServerError(str(error.detail))
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        ours = RequestError(str(error.detail))
    ours.status = status.value
    ours.code = status.phrase.lower().replace(" ", "_")
    return ours
