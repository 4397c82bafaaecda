"""Work on a thread for it alone, which may take its time or never end: nothing else waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


async def on_own_thread(
    name: str, work: Callable[[], T], begin: Callable[[], object] = lambda: None
) -> T:
    """What the work returns; `begin` is called on the thread first. Whoever waits may leave: the
    thread ends with its work."""
    thread = ThreadPoolExecutor(1, name, begin)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    finally:
        thread.shutdown(wait=False)
