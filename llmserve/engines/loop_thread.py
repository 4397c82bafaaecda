"""The end of a thread that runs an engine's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from loguru import logger


def watch(thread: asyncio.Future[Any], what: str, refuse_rest: Callable[[], None]) -> None:
    """When the thread ends, what came meanwhile is refused; if its loop broke, the log says why."""

    def ended(thread: asyncio.Future[Any]) -> None:
        refuse_rest()
        if not thread.cancelled() and thread.exception() is not None:
            logger.opt(exception=thread.exception()).error("the {} broke", what)

    thread.add_done_callback(ended)
