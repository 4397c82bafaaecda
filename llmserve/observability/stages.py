"""How the time of a start is spent."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stages:
    """Measures consecutive stages; the first one is not shown if it has no name.

    Used by one thread at a time: the one that starts something, or the one that does the work.
    """

    def __init__(
        self,
        stage: str = "",
        *,
        begun_at: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._clock = clock
        self._begun_at = self._entered_at = clock() if begun_at is None else begun_at
        self._seconds: dict[str, float] = {}

    def enter(self, stage: str) -> None:
        """End the current stage and begin another; one that is entered again is continued."""
        now = self._clock()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._entered_at
        self._stage, self._entered_at = stage, now

    @property
    def total_seconds(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begun_at

    def __str__(self) -> str:
        self.enter(self._stage)
        return ", ".join(f"{stage} {s:.2f} s" for stage, s in self._seconds.items() if stage)
