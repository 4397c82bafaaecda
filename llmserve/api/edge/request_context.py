"""The outermost of our middlewares: gives every request its id, one log line and one count."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmserve.address import plain_address
from llmserve.admission.quota import Quota
from llmserve.api.container import container_of
from llmserve.api.errors import refusal_fields
from llmserve.api.ignored import HEADER as IGNORED_HEADER
from llmserve.api.ignored import IN_SCOPE
from llmserve.api.own_headers import own_headers
from llmserve.observability.access_log import log_access
from llmserve.observability.context import (
    TRACE,
    USABLE_REQUEST_ID,
    access_timings,
    current_trace,
    request_id,
    trace_headers,
)
from llmserve.observability.metrics import Metrics
from llmserve.observability.timings import RequestTimings, access_fields

HEADER: Final = "X-Request-ID"
QUIET: Final = ("/health", "/metrics", "/playground")
AS_IT_IS: Final = "identity"
"""The `Content-Encoding` of a response that is not to be compressed. No client sees it."""
HAS_STARTED: Final = "llmserve.has_started"
"""The scope's key for whether the response has started."""


class RequestContextMiddleware:
    """Echoes a client's X-Request-ID, or makes one where there is none that can be used.

    The id is in `scope["request_id"]`, in the response's header and in every log line.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if scope.get("client") is not None:
            scope["client"] = _checked(*scope["client"])
        given = Headers(scope=scope).get(HEADER)
        is_usable = given is not None and USABLE_REQUEST_ID.fullmatch(given) is not None
        scope["request_id"] = given if is_usable else uuid.uuid4().hex
        token = request_id.set(scope["request_id"])
        headers = Headers(scope=scope)
        current_trace.set(container_of(scope).tracer.context_from(headers))
        trace_headers.set({name: headers[name] for name in TRACE if name in headers})
        try:
            if scope["type"] == "http":
                await self._answer(scope, receive, send)
            else:
                await self._converse(scope, receive, send)
        finally:
            request_id.reset(token)

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] in {"websocket.accept", "websocket.http.response.start"}:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)[HEADER] = scope["request_id"]
            await send(message)

        await self._app(scope, receive, send_with_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        timings: list[RequestTimings] = []
        access_timings.set(timings)
        begun = time.monotonic()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                scope[HAS_STARTED] = True
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if headers.get("Content-Encoding") == AS_IT_IS:
                    del headers["Content-Encoding"]
                headers[HEADER] = scope["request_id"]
                headers.update(own_headers(scope, _quota(scope)))
                if IN_SCOPE in scope:
                    headers[IGNORED_HEADER] = scope[IN_SCOPE]
                if container_of(scope).service.is_retiring:
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._account(scope, status, time.monotonic() - begun, timings)

    def _account(
        self, scope: Scope, status: int, seconds: float, timings: Sequence[RequestTimings]
    ) -> None:
        # The route's template, never the path: clients can invent any number of paths.
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.http_requests.labels(scope["method"], route, str(status)).inc()
        membership = container_of(scope).membership
        if membership is not None:
            self._metrics.worker_http_requests.labels(str(membership.number)).inc()
        level = "DEBUG" if scope["path"].startswith(QUIET) else "INFO"
        fields = {"status": status, "duration_ms": round(seconds * 1000, 1)}
        fields |= refusal_fields(scope) | access_fields(timings)
        log_access(level, f"{scope['method']} {route}", fields)


def _quota(scope: Scope) -> Quota | None:
    """What the caller's key has left, after this request was admitted or refused."""
    caller = scope.get("caller")
    return None if caller is None else container_of(scope).limiter.quota(caller)


def _checked(host: str, port: int) -> tuple[str, int] | None:
    """The client, if it has an address: Uvicorn takes any word in X-Forwarded-For for one."""
    address = plain_address(host)
    return None if address is None else (address, port)
