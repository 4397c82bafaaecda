"""Responses to what the application never sees: invalid HTTP, headers over the bounds, an invalid
WebSocket handshake. They have the shape of all our errors.
"""

from __future__ import annotations

import uuid

from loguru import logger
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from llmserve.api.errors import error_response
from llmserve.errors import LLMServeError


def refusal(error: LLMServeError) -> bytes:
    """The whole response, after which the connection must be closed. Logs the request id in it."""
    request_id = uuid.uuid4().hex
    response = error_response(error)
    response.headers["X-Request-ID"] = request_id
    # RFC 9110, section 7.8: `Upgrade` must be listed in `Connection`.
    response.headers["Connection"] = "Upgrade, close" if "Upgrade" in response.headers else "close"
    logger.bind(request_id=request_id, status=error.status).info(
        "refused before the application: {}", error
    )
    fields = (b"%b: %b\r\n" % field for field in response.raw_headers)
    return b"".join((STATUS_LINE[error.status], *fields, b"\r\n", bytes(response.body)))
