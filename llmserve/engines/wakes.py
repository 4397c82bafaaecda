"""Wakes the event loop once per step, however many streams have events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Wakes:
    """Callbacks for the event loop, handed over together. Owned by the step loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: list[Callable[[], None]] = []

    def add(self, callback: Callable[[], None]) -> None:
        """To run on the event loop after `flush`."""
        self._callbacks.append(callback)

    def flush(self) -> None:
        """Hand the callbacks over."""
        if not self._callbacks:
            return
        callbacks, self._callbacks = self._callbacks, []
        # A closed loop has no reader left to wake.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_run, callbacks)


def _run(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
