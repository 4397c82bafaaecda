"""A bound on request bodies.

Starlette has a middleware for this, which answers in plain text; ours speaks the error shape.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmserve.api.errors import error_response
from llmserve.errors import BodyTooLarge


class BodyLimitMiddleware:
    """Answers 413 for a declared length over the limit, and for a body that grows over it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, within the bound."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        message = f"the body is over this server's limit of {self._max_bytes:,} bytes; shorten it"
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await error_response(BodyTooLarge(message))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            part = await receive()
            received += len(part.get("body", b""))
            if received > self._max_bytes:
                # FastAPI turns any other exception of a body into a 400.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
            return part

        await self._app(scope, counted, send)
