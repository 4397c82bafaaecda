"""What the status of a call means for the request, and for the upstream."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import grpc
import orjson

from llmserve.engines.remote.refusal import error_in_stream, refusal_of
from llmserve.engines.remote.transport import Lost, Refused
from llmserve.errors import LLMServeError, UpstreamTimeout
from llmserve.proto.metadata import ERROR_CODE, ERROR_PARAM, RETRY_AFTER

STATUSES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
"""Others are the upstream's own failures."""
TYPES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid_request_error",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "rate_limit_error",
    grpc.StatusCode.UNAVAILABLE: "service_unavailable_error",
}
"""Of errors in mid-stream, in OpenAI's words."""
BROKEN: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""What gRPC says itself of a connection that broke, and of a call that came at the very moment at
which the server stopped."""
TOO_LARGE: Final = "larger than max"
"""gRPC's own words about a message, which have no code of ours."""


def raised_by(
    error: grpc.aio.AioRpcError, key: str | None, *, is_accepted: bool
) -> Lost | Refused | LLMServeError:
    """The exception for a call that ended with this error, after a part of the answer or not."""
    trailers = {name: str(value) for name, value in error.trailing_metadata() or ()}
    status, told = error.code(), _told(error, trailers)
    if status in BROKEN and ERROR_CODE not in trailers:
        return Lost(told["message"])
    if is_accepted:
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UpstreamTimeout("the server of this model did not end its answer in time")
        return error_in_stream(told | {"type": TYPES.get(status)})
    number = STATUSES.get(status, HTTPStatus.INTERNAL_SERVER_ERROR)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE in told["message"]:
        number = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    headers = {name: trailers[name] for name in (RETRY_AFTER,) if name in trailers}
    return Refused(refusal_of(number, headers, orjson.dumps({"error": told}), key))


def _told(error: grpc.aio.AioRpcError, trailers: dict[str, str]) -> dict[str, Any]:
    """As it would stand in a body. A field of the options has its bare name: other dialects have
    none."""
    told: dict[str, Any] = {"message": error.details() or error.code().name}
    if ERROR_CODE in trailers:
        told["code"] = trailers[ERROR_CODE]
    if ERROR_PARAM in trailers:
        param = unquote(trailers[ERROR_PARAM])
        told["param"] = param.removeprefix("options.").removeprefix("sampling.")
    return told
