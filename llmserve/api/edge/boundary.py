"""The last resort before CORS: a web page may read the answer even if it is about a bug."""

from __future__ import annotations

from loguru import logger
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmserve.api.edge.request_context import HAS_STARTED, HEADER
from llmserve.api.errors import error_response, no_websocket_response, unexpected_response
from llmserve.errors import InvalidRequest
from llmserve.observability.context import MAX_REQUEST_ID


class BoundaryMiddleware:
    """Refuses an unusable X-Request-ID with 400, and turns a bug of ours into a 500.

    It is inside the CORS middleware, so that a web page may read either answer, and inside
    `RequestContextMiddleware`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "websocket":
            await self._converse(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif Headers(scope=scope).get(HEADER, scope["request_id"]) != scope["request_id"]:
            await _unusable_id()(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        # The ASGI edge: a bug of ours. The log still has the request's id here.
        except Exception:
            logger.exception("unexpected error")
            if scope.get(HAS_STARTED):
                raise  # Uvicorn cuts the connection, which the client sees
            await unexpected_response(scope)(scope, receive, send)

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket, whose handshake is an HTTP request until it is accepted."""
        has_answered = False

        async def send_in_shape(message: Message) -> None:
            nonlocal has_answered
            is_first, has_answered = not has_answered, True
            if is_first and message["type"] == "websocket.close":  # the router: no such route
                await no_websocket_response(scope["path"])(scope, receive, send)
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_in_shape)
        # The ASGI edge: a bug of ours.
        except Exception:
            logger.exception("unexpected error")
            if has_answered:
                raise  # Uvicorn cuts the connection
            await unexpected_response(scope)(scope, receive, send)


def _unusable_id() -> ASGIApp:
    return error_response(
        InvalidRequest(
            f"{HEADER} must be 1 to {MAX_REQUEST_ID} letters, digits or . _ : / + = -", param=HEADER
        )
    )
