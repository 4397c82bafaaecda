"""The store of responses."""

from __future__ import annotations

import contextlib

from llmserve.settings import Settings
from llmserve.storage.database import Bounds
from llmserve.storage.response_store import ResponseStore, open_store


async def open_responses(
    settings: Settings, stack: contextlib.AsyncExitStack
) -> ResponseStore | None:
    """Open until the stack is closed; `None` where nothing is kept.

    Raises:
        ConfigurationError: its file cannot be used.
    """
    if settings.responses_store is None:
        return None
    bounds = Bounds(
        responses=settings.responses_store_max,
        bytes=settings.responses_store_max_bytes,
        seconds=settings.responses_store_seconds,
    )
    return await stack.enter_async_context(open_store(settings.responses_store, bounds))
