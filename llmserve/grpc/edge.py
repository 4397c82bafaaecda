"""The outermost layer of every call: its key, its id, one log line, one count, and a status."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from loguru import logger

from llmserve.bootstrap import Container
from llmserve.errors import BodyTimeout, InvalidRequest, LLMServeError, ServerError
from llmserve.grpc.call import Call, credential_of, current_call, headers_of
from llmserve.grpc.status import CallEnded, Metadata, status_of, trailers_of
from llmserve.observability.access_log import log_access
from llmserve.observability.context import (
    MAX_REQUEST_ID,
    TRACE,
    USABLE_REQUEST_ID,
    access_timings,
    current_trace,
    request_id,
    trace_headers,
)
from llmserve.observability.timings import RequestTimings, access_fields
from llmserve.proto.metadata import REQUEST_ID
from llmserve.timer import awake_timeout

SERVICE: Final = "/llmserve.v1.Generation/"
MAX_REASON: Final = 300

Context = Any
"""grpc.aio's ServicerContext."""
Answer = Callable[[Any, Context], Awaitable[Any]]


class CallEdge(grpc.aio.ServerInterceptor):
    """Around the calls of our own service: health and reflection ask for no key."""

    def __init__(self, container: Container) -> None:
        self._container = container

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler that answers the call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(SERVICE):
            return handler
        headers = headers_of(handler_call_details.invocation_metadata)
        given = headers.get(REQUEST_ID, "")
        call_id = given if USABLE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        edge = _Edge(self._container, method.removeprefix("/"), call_id, headers)
        try:
            if headers.get(REQUEST_ID, call_id) != call_id:
                raise _unusable_id()
            call = Call(call_id, self._container.keys.identify(credential_of(headers)))
        except LLMServeError as error:
            answer = edge.around(_refusing(error))
        else:
            seconds = self._container.settings.body_timeout_seconds
            answer = edge.around(_reading(handler, call, seconds))
        # A handler of streams asks for its messages: of a stranger none is read, and of others one,
        # within a time limit.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                answer, response_serializer=handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )


class _Edge:
    """Of one call."""

    def __init__(
        self, container: Container, method: str, call_id: str, headers: Mapping[str, str]
    ) -> None:
        self._container = container
        self._method = method
        self._id = call_id
        self._headers = headers

    def around(self, answer: Answer) -> Answer:
        """The same answer, inside."""
        return partial(self._answer, answer)

    async def _answer(self, answer: Answer, sent: Any, context: Context) -> Any:
        request_id.set(self._id)
        headers = self._headers
        current_trace.set(self._container.tracer.context_from(headers))
        trace_headers.set({name: headers[name] for name in TRACE if name in headers})
        timings: list[RequestTimings] = []
        access_timings.set(timings)
        begun = time.monotonic()
        status, fields = grpc.StatusCode.OK, {}
        trailers: Metadata = ((REQUEST_ID, self._id),)
        try:
            return await answer(sent, context)
        except LLMServeError as error:
            status, fields = status_of(error), _refusal_fields(error)
            await context.abort(status, error.message, trailers + trailers_of(error))
        except CallEnded as ended:
            status = ended.status
            await context.abort(status, ended.message, trailers)
        except asyncio.CancelledError:
            left = context.time_remaining()
            is_late = left is not None and left <= 0
            status = grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
            raise
        # The edge of gRPC: a bug of ours.
        except Exception:
            logger.exception("unexpected error")
            bug = ServerError("an unexpected error; the log has it under this call's id")
            status, fields = status_of(bug), _refusal_fields(bug)
            await context.abort(status, bug.message, trailers + trailers_of(bug))
        finally:
            seconds = time.monotonic() - begun
            self._account(status, seconds, fields | access_fields(timings))

    def _account(self, status: grpc.StatusCode, seconds: float, fields: dict[str, Any]) -> None:
        self._container.metrics.grpc_requests.labels(self._method, status.name).inc()
        shown = {"status": status.name, "duration_ms": round(seconds * 1000, 1)}
        log_access("INFO", f"gRPC {self._method}", shown | fields)


def _reading(handler: Any, call: Call, seconds: float) -> Answer:
    """The answer to the one message of a call. It is parsed here, so that what cannot be has our
    status."""
    answer = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def read(messages: AsyncIterator[bytes], context: Context) -> Any:
        current_call.set(call)
        try:
            async with awake_timeout(seconds):
                sent = handler.request_deserializer(await anext(messages))
        except TimeoutError:
            raise BodyTimeout(f"the message did not come within {seconds:g} s") from None
        except StopAsyncIteration:
            raise InvalidRequest("there is no message") from None
        except DecodeError:
            raise InvalidRequest("the message cannot be parsed") from None
        return await answer(sent, context)

    return read


def _refusing(error: LLMServeError) -> Answer:
    async def refuse(sent: object, context: Context) -> None:
        raise error

    return refuse


def _unusable_id() -> InvalidRequest:
    return InvalidRequest(
        f"{REQUEST_ID} must be 1 to {MAX_REQUEST_ID} letters, digits or . _ : / + = -",
        param=REQUEST_ID,
    )


def _refusal_fields(error: LLMServeError) -> dict[str, Any]:
    """What the client was told, which never has the prompt in it."""
    param = {} if error.param is None else {"param": error.param}
    return {"code": error.code, **param, "reason": error.message[:MAX_REASON]}
