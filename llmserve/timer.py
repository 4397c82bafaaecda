"""Event loop timers and timeouts that leave out the time in which the process was paused.

The event loop's own timers would all be due at once after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from llmserve.clock import awake_clock

CLOSE_SECONDS: Final = 0.002
"""The event loop rounds to milliseconds and may call back one early."""


class Timer:
    """Calls back once, after `seconds` in which this process ran. Owned by the event loop."""

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
        """Do not call back; harmless if called twice or too late."""
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
    """Like `asyncio.timeout`, but measured by `clock`.

    Raises:
        TimeoutError: the block took longer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        timer = Timer(seconds, lambda: scope.reschedule(loop.time()), clock)
        try:
            yield
        finally:
            timer.cancel()
