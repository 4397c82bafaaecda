"""The scheduler at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Attributes:
    running: sequences that have blocks; `waiting` have none.
    blocks_used: held by sequences or pins, of `blocks_total`.
    preemptions: since the start.
    """

    running: int
    waiting: int
    blocks_used: int
    blocks_total: int
    preemptions: int
