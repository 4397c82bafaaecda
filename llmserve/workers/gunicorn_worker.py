"""Gunicorn's worker class for llmserve, based on uvicorn-worker. Needs the extra `gunicorn`."""

from __future__ import annotations

from typing import Any

from uvicorn_worker import UvicornWorker

from llmserve.settings import load_settings
from llmserve.workers.app import server_options


class GunicornWorker(UvicornWorker):
    """Runs Uvicorn with llmserve's options.

    They are read by each worker, so that reloading Gunicorn (SIGHUP) applies new ones.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.CONFIG_KWARGS = server_options(load_settings().settings)
        super().__init__(*args, **kwargs)
