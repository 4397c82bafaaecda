"""Answers to what the application never sees: no HTTP, headers over the bounds, a WebSocket's
handshake that is none. In the one error shape, like all others.
"""

from __future__ import annotations

import uuid

from loguru import logger
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from llmserve.api.errors import error_response
from llmserve.errors import LLMServeError


def refusal(error: LLMServeError) -> bytes:
    """The whole response, after which its connection must be closed. The log has its id."""
    request_id = uuid.uuid4().hex
    response = error_response(error)
    response.headers["X-Request-ID"] = request_id
    # RFC 9110, section 7.8: `Upgrade` is an option of the connection.
    response.headers["Connection"] = "Upgrade, close" if "Upgrade" in response.headers else "close"
    logger.bind(request_id=request_id, status=error.status).info("refused unread: {}", error)
    fields = (b"%b: %b\r\n" % field for field in response.raw_headers)
    return b"".join((STATUS_LINE[error.status], *fields, b"\r\n", bytes(response.body)))
