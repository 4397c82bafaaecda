"""Wakes the loops of this worker when a client brought something to do."""

from __future__ import annotations

import asyncio


class Bell:
    """Owned by the event loop. A loop listens before it looks, and then waits: what rang meanwhile
    is not missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def listen(self) -> asyncio.Event:
        """Set when the bell rings next."""
        return self._event

    def ring(self) -> None:
        """Wake all who listen."""
        self._event.set()
        self._event = asyncio.Event()


async def rung(event: asyncio.Event, seconds: float) -> None:
    """Wait until it rang, or for so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
