"""Time as this process was awake to see it. Knows nothing of event loops.

A container that is paused, a frozen virtual machine and SIGSTOP stop every process at once, while
the machine's clock goes on. On waking every wait would be over: healthy workers would look dead
and running requests late. So whoever runs a process's main loop ticks a clock; when a tick comes
far later than the one before, the time between them counts for nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from loguru import logger

PATIENCE_SECONDS: Final = 1.0
"""Ticks come several times a second. Beyond this the process did not run."""
TOLD_SECONDS: Final = 5.0
"""A shorter sleep is a busy machine, most likely, and nobody's business."""
MAX_SLEEPS: Final = 16


@dataclass(frozen=True, slots=True)
class _Sleep:
    """Readings of the machine's clock."""

    begun: float
    ended: float

    def within(self, begun: float, ended: float) -> float:
        """How many seconds of it lie between two readings."""
        return max(0.0, min(self.ended, ended) - max(self.begun, begun))


@dataclass(frozen=True, slots=True)
class _Past:
    """What is known of this process; replaced as a whole, so that any thread may read it.

    `ticked_at` is `None` while nobody ticks: then the process counts as awake.
    """

    ticked_at: float | None = None
    slept: float = 0.0
    sleeps: tuple[_Sleep, ...] = ()


class AwakeClock:
    """Ticked by one thread, read by any.

    `machine` is the machine's monotonic clock, which means the same in every process of the box.
    Readings of this clock are for one process only.
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
        """Seconds since some moment, without those that the process slept."""
        past = self._past
        return self._seen(past, self.machine()) - past.slept

    def slept(self, begun: float, ended: float) -> float:
        """How much of the time between two readings of the machine's clock, by whichever process,
        this process slept. Only its last sleeps are remembered."""
        past = self._past
        asleep = _Sleep(self._seen(past, ended), ended)  # since the last tick, if at all
        return sum(sleep.within(begun, ended) for sleep in (*past.sleeps, asleep))

    def since(self, reading: float) -> float:
        """Seconds since a reading of the machine's clock, without those that this process slept."""
        now = self.machine()
        return max(0.0, now - reading - self.slept(reading, now))

    def tick(self) -> float:
        """This process runs; returns for how many seconds it did not."""
        past, now = self._past, self.machine()
        seen = self._seen(past, now)
        asleep = now - seen
        if asleep <= 0.0:
            self._past = _Past(now, past.slept, past.sleeps)
            return 0.0
        sleeps = (*past.sleeps, _Sleep(seen, now))[-MAX_SLEEPS:]
        self._past = _Past(now, past.slept + asleep, sleeps)
        logger.log(
            "WARNING" if asleep >= TOLD_SECONDS else "DEBUG",
            "this process did not run for {:.1f} s (paused, suspended, or no processor was free): "
            "that time counts for no timeout",
            asleep,
        )
        return asleep

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """While inside, somebody calls `tick` several times a second."""
        self.tick()
        try:
            yield
        finally:
            past = self._past
            self._past = _Past(None, past.slept, past.sleeps)

    def _seen(self, past: _Past, reading: float) -> float:
        """The reading, or the end of what was seen where the process has slept since."""
        if past.ticked_at is None:
            return reading
        return min(reading, past.ticked_at + self._patience)


awake_clock: Final = AwakeClock()
"""This process's own."""
