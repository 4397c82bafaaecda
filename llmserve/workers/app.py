"""The application of a worker process, and the options that its server must have."""

from __future__ import annotations

import os
from typing import Any, Final

from fastapi import FastAPI

from llmserve.fleet.board import BOARD_VARIABLE
from llmserve.observability.logs import configure_logging
from llmserve.settings import Settings, load_settings
from llmserve.workers.http_protocol import bounded_protocol
from llmserve.workers.websocket_protocol import bounded_websocket

SHUTDOWN_MARGIN_SECONDS: Final = 10


def create_app(board: int | None = None) -> FastAPI:
    """The ASGI factory, for our workers, for Gunicorn and others: settings from the environment.

    `board` is the descriptor of a board that the process inherited.
    """
    from llmserve.api.app import create_app as create  # takes seconds
    from llmserve.grpc.beside import serve_beside

    settings = load_settings().settings
    configure_logging(settings.log_format, settings.log_level)
    inherited = os.environ.get(BOARD_VARIABLE)
    if board is None and inherited:
        board = int(inherited)
    return create(settings, board, serve_beside)


def server_options(settings: Settings) -> dict[str, Any]:
    """Uvicorn's options, the same in every process."""
    return {
        "loop": "uvloop",
        "http": bounded_protocol(
            max_header_bytes=settings.max_header_bytes,
            header_timeout_seconds=settings.header_timeout_seconds,
            send_timeout_seconds=settings.send_timeout_seconds,
        ),
        "ws": bounded_websocket(
            max_header_bytes=settings.max_header_bytes,
            header_timeout_seconds=settings.header_timeout_seconds,
            send_timeout_seconds=settings.send_timeout_seconds,
        ),
        "ws_max_size": settings.max_body_bytes,
        "timeout_keep_alive": settings.idle_connection_seconds,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # Draining is done by us and has ended by then.
        "timeout_graceful_shutdown": SHUTDOWN_MARGIN_SECONDS,
    }
