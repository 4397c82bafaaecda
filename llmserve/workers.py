"""Starts Uvicorn: one process or several, on one port."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI
from loguru import logger

from llmserve.observability.logs import configure_logging
from llmserve.settings import Settings, load_settings, to_environment

METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
SHUTDOWN_MARGIN_SECONDS: Final = 10
BACKLOG: Final = 2048


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C, then exit with 0.

    Worker processes load their settings from the environment that is set here.
    """
    with _run_directory() as directory:
        os.environ |= to_environment(settings.model_copy(update={"run_dir": directory}))
        configure_logging(settings.log_format, settings.log_level)
        for sig in (signal.SIGTERM, signal.SIGINT):
            # Before Uvicorn takes the signal, and when it raises it again after its shutdown.
            signal.signal(sig, _exit_quietly)
        logger.info("llmserve serves {} on http://{}:{}", ", ".join(settings.models),
                    settings.host, settings.port)  # fmt: skip
        uvicorn.run(
            "llmserve.workers:create_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            reload=settings.reload,
            loop="uvloop",
            http="httptools",
            ws_max_size=settings.max_body_bytes,
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            server_header=False,
            # The drain itself is ours and over by then.
            timeout_graceful_shutdown=SHUTDOWN_MARGIN_SECONDS,
            timeout_worker_healthcheck=60,
        )


def create_app() -> FastAPI:
    """Uvicorn's factory, in a worker process: the settings come from the environment."""
    # prometheus_client decides at import whether it shares its values: after `serve` has set
    # the directory.
    from llmserve.api.app import create_app as create

    settings = load_settings().settings
    configure_logging(settings.log_format, settings.log_level)
    return create(settings)


@contextlib.contextmanager
def _run_directory() -> Iterator[Path]:
    """A fresh directory for the workers' shared metrics, gone when the server is."""
    with tempfile.TemporaryDirectory(prefix="llmserve-metrics-") as name:
        os.environ[METRICS_VARIABLE] = name
        yield Path(name)


def _exit_quietly(sig: int, frame: FrameType | None) -> None:
    sys.exit(0)
