"""Work beside streams that must not stall, on a machine with few processors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

REST: Final = 3.0
"""Times as long as it worked."""

Pause = Callable[[], None]
"""Called between two short pieces of work."""


class Pace:
    """A `Pause` that rests. Belongs to the thread that works."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._begun_at = clock()

    def __call__(self) -> None:
        """Rest from what was done since it was called last."""
        self._sleep(REST * (self._clock() - self._begun_at))
        self._begun_at = self._clock()


def no_pause() -> None:
    """For those beside whom nothing runs."""
