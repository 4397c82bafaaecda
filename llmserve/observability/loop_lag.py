"""Measures how late the event loop is: the first sign that something blocks it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.25


async def watch_loop_lag(
    observe: Callable[[float], None], interval_seconds: float = INTERVAL_SECONDS
) -> None:
    """Report how late a timer fires, in seconds, repeatedly until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval_seconds
        await asyncio.sleep(interval_seconds)
        observe(max(0.0, loop.time() - due))
