"""Runs a test's coroutine, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def run(test: Callable[[], Coroutine[Any, Any, None]], seconds: float = 60) -> None:
    """Run it on a loop of its own; too long is a failure."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await test()

    asyncio.run(bounded())
