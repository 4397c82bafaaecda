"""gRPC's status for each of our errors, and what the trailing metadata tells of it."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import grpc

from llmserve.errors import LLMServeError
from llmserve.proto.metadata import ERROR_CODE, ERROR_PARAM, RETRY_AFTER

MAX_PARAM: Final = 256

STATUSES: Final = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UPGRADE_REQUIRED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.BAD_GATEWAY: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""By the errors' number in HTTP. gRPC itself says RESOURCE_EXHAUSTED of a message that is too
large, and what clients retry is UNAVAILABLE."""

Metadata = tuple[tuple[str, str], ...]


class CallEnded(Exception):
    """The call ends with this status, though nothing failed."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def status_of(error: LLMServeError) -> grpc.StatusCode:
    """The status that a call ends with."""
    return STATUSES[HTTPStatus(error.status)]


def trailers_of(error: LLMServeError) -> Metadata:
    """What programs read of it."""
    trailers = [(ERROR_CODE, error.code)]
    if error.param is not None:
        # The last part may be a client's own word, and metadata is ASCII.
        trailers.append((ERROR_PARAM, quote(error.param[:MAX_PARAM], safe="[]./_-")))
    if error.retry_after_seconds is not None:
        trailers.append((RETRY_AFTER, str(math.ceil(error.retry_after_seconds))))
    return tuple(trailers)
