"""Timers and timeouts of the event loop by the clock of a process that may sleep.

The event loop's own timers are all due at once when a process wakes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from llmserve.clock import awake_clock

CLOSE_SECONDS: Final = 0.002
"""The event loop counts in milliseconds, and may be early by one."""


class Timer:
    """Calls back once, after so many seconds in which this process was awake. Owned by the loop."""

    def __init__(
        self,
        seconds: float,
        callback: Callable[[], object],
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self._callback = callback
        self._clock = clock
        self._due = clock() + seconds
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(seconds, self._on_time)

    def cancel(self) -> None:
        """Not any more; doing it twice, or too late, is harmless."""
        self._handle.cancel()

    def _on_time(self) -> None:
        left = self._due - self._clock()
        if left > CLOSE_SECONDS:
            self._handle = self._loop.call_later(left, self._on_time)
        else:
            self._callback()


@contextlib.asynccontextmanager
async def awake_timeout(
    seconds: float, clock: Callable[[], float] = awake_clock
) -> AsyncIterator[None]:
    """Like `asyncio.timeout`, by that clock.

    Raises:
        TimeoutError: what is inside took longer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        timer = Timer(seconds, lambda: scope.reschedule(loop.time()), clock)
        try:
            yield
        finally:
            timer.cancel()
