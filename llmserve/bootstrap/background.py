"""Tasks that run until the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


async def run_in_background(
    work: Coroutine[Any, Any, None], name: str, stack: contextlib.AsyncExitStack
) -> None:
    """Start it; it is cancelled when the stack is closed."""
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
