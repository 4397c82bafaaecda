"""Simulated time: callbacks in their order. It is a clock, too."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Timeline:
    """Callbacks for the same moment run in the order in which they were asked for.

    Attributes:
        now: seconds since the start.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def __call__(self) -> float:
        """The moment that it is."""
        return self.now

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), callback))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._events:
            self.now, _, callback = heapq.heappop(self._events)
            callback()
