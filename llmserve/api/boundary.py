"""What stands between a browser's page and the application: every answer goes through CORS."""

from __future__ import annotations

from loguru import logger
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from llmserve.api.errors import error_response, unexpected_response
from llmserve.api.request_context import HAS_STARTED, HEADER, MAX_LENGTH
from llmserve.errors import InvalidRequest


class BoundaryMiddleware:
    """Refuses an unusable X-Request-ID with 400, and turns a bug of ours into a 500.

    Stands inside of CORS, so that a page may read either, and of `RequestContextMiddleware`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif Headers(scope=scope).get(HEADER, scope["request_id"]) != scope["request_id"]:
            await _unusable_id()(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        # The ASGI edge: a bug of ours. Here the log still has the request's id.
        except Exception:
            logger.exception("unexpected error")
            if scope.get(HAS_STARTED):
                raise  # Uvicorn cuts the connection, which the client sees
            await unexpected_response()(scope, receive, send)


def _unusable_id() -> ASGIApp:
    return error_response(
        InvalidRequest(
            f"{HEADER} must be 1 to {MAX_LENGTH} letters, digits or . _ : / + = -", param=HEADER
        )
    )
