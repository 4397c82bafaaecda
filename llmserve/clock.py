"""A clock that leaves out the time in which this process was paused. Knows no event loop.

A paused container, a frozen virtual machine or SIGSTOP stops every process at once, while the
machine's clock goes on. Afterwards every timeout would have expired: healthy workers would look
dead and running requests late. So a process's main loop ticks a clock, and when a tick comes far
later than the one before, the time between the two is not counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from loguru import logger

PATIENCE_SECONDS: Final = 1.0
"""Ticks come several times a second; if none came for longer than this, the process was paused."""
WARN_SECONDS: Final = 5.0
"""A shorter pause is most likely a busy machine and is logged at DEBUG only."""
MAX_SLEEPS: Final = 16


@dataclass(frozen=True, slots=True)
class _Sleep:
    """A pause of this process, between two readings of the machine's clock."""

    begun: float
    ended: float

    def within(self, begun: float, ended: float) -> float:
        """How many of its seconds lie between two readings."""
        return max(0.0, min(self.ended, ended) - max(self.begun, begun))


@dataclass(frozen=True, slots=True)
class _Past:
    """The ticks and pauses so far; replaced as a whole, so that any thread may read it.

    `ticked_at` is `None` while nothing ticks the clock: the process then counts as awake.
    """

    ticked_at: float | None = None
    slept: float = 0.0
    sleeps: tuple[_Sleep, ...] = ()


class AwakeClock:
    """Ticked by one thread, read by any.

    `machine` is the machine's monotonic clock, whose readings can be compared between processes;
    readings of this clock cannot.
    """

    def __init__(
        self,
        machine: Callable[[], float] = time.monotonic,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.machine = machine
        self._patience = patience_seconds
        self._past = _Past()

    def __call__(self) -> float:
        """Seconds since an arbitrary moment, pauses left out."""
        past = self._past
        return self._seen(past, self.machine()) - past.slept

    def slept(self, begun: float, ended: float) -> float:
        """For how many seconds between two readings of the machine's clock this process was paused.

        The readings may be another process's. Only the last pauses are remembered.
        """
        past = self._past
        asleep = _Sleep(self._seen(past, ended), ended)  # since the last tick; may be empty
        return sum(sleep.within(begun, ended) for sleep in (*past.sleeps, asleep))

    def since(self, reading: float) -> float:
        """Seconds since a reading of the machine's clock, this process's pauses left out."""
        now = self.machine()
        return max(0.0, now - reading - self.slept(reading, now))

    def tick(self) -> float:
        """Note that this process runs; returns for how many seconds it did not."""
        past, now = self._past, self.machine()
        seen = self._seen(past, now)
        asleep = now - seen
        if asleep <= 0.0:
            self._past = _Past(now, past.slept, past.sleeps)
            return 0.0
        sleeps = (*past.sleeps, _Sleep(seen, now))[-MAX_SLEEPS:]
        self._past = _Past(now, past.slept + asleep, sleeps)
        logger.log(
            "WARNING" if asleep >= WARN_SECONDS else "DEBUG",
            "this process did not run for {:.1f} s (paused, suspended, or no processor was free): "
            "that time does not count towards any timeout",
            asleep,
        )
        return asleep

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """Inside it, the caller calls `tick` several times a second."""
        self.tick()
        try:
            yield
        finally:
            past = self._past
            self._past = _Past(None, past.slept, past.sleeps)

    def _seen(self, past: _Past, reading: float) -> float:
        """The reading, or if the process has been paused since its last tick, when that began."""
        if past.ticked_at is None:
            return reading
        return min(reading, past.ticked_at + self._patience)


awake_clock: Final = AwakeClock()
"""This process's clock."""
