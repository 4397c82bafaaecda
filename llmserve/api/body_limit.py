"""Bounds on request bodies: how large, and how long they may take to come.

Starlette has a middleware for the size, which answers in plain text; ours speaks the error shape.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmserve.api.errors import error_response
from llmserve.clock import awake_clock
from llmserve.errors import BodyTooLarge
from llmserve.timer import awake_timeout

MAX_DIGITS: Final = 19
"""Of a length; Python refuses to make a number of thousands of them."""


class BodyLimitMiddleware:
    """Answers 413 for a declared length over the limit and for a body that grows over it, 408
    for one that is not complete in time."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, within the bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_bytes(Headers(scope=scope)) > self._max_bytes:
            await error_response(BodyTooLarge(self._too_large))(scope, receive, send)
            return
        await self._app(scope, _Bounded(receive, self), send)

    @property
    def _too_large(self) -> str:
        return f"the body is over this server's limit of {self._max_bytes:,} bytes; shorten it"

    @property
    def _too_slow(self) -> str:
        return f"the body took longer than {self._timeout_seconds:g} s; send it faster"


def _declared_bytes(headers: Headers) -> int:
    """What Content-Length says, cut to a size that is over every limit; 0 where it says nothing."""
    digits = headers.get("content-length", "").lstrip("0")
    return int(digits[:MAX_DIGITS]) if digits.isdecimal() else 0


class _Bounded:
    """One request's `receive`. Once the body is complete, waiting means waiting for a hang-up.

    FastAPI turns any exception of a body but an HTTPException into a 400.
    """

    def __init__(self, receive: Receive, bounds: BodyLimitMiddleware) -> None:
        self._receive = receive
        self._bounds = bounds
        self._received = 0
        self._is_complete = False
        self._deadline: float | None = None

    async def __call__(self) -> Message:
        if self._is_complete:
            return await self._receive()
        if self._deadline is None:
            self._deadline = awake_clock() + self._bounds._timeout_seconds
        try:
            async with awake_timeout(self._deadline - awake_clock()):
                part = await self._receive()
        except TimeoutError:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, self._bounds._too_slow) from None
        self._is_complete = not part.get("more_body", False)
        self._received += len(part.get("body", b""))
        if self._received > self._bounds._max_bytes:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._bounds._too_large)
        return part
