"""What the time of a start goes into."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stages:
    """One stage after another; the first has no name where none is given.

    Whoever starts something owns it, and the thread that does the work meanwhile enters stages.
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
        """A stage begins, and the one before it ends; one that is entered again goes on."""
        now = self._clock()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._entered_at
        self._stage, self._entered_at = stage, now

    @property
    def total_seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._begun_at

    def __str__(self) -> str:
        self.enter(self._stage)
        return ", ".join(f"{stage} {s:.2f} s" for stage, s in self._seconds.items() if stage)
