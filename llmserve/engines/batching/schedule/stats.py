"""The scheduler at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateCounts:
    """Slots of the state pool; all 0 without recurrent states.

    Attributes:
        used: slots of running sequences, of `total`.
        checkpoints: slots in which a state is kept.
        hits: since the start, how often a sequence began with a kept state.
    """

    used: int = 0
    total: int = 0
    checkpoints: int = 0
    hits: int = 0


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Attributes:
    running: sequences that have blocks; `waiting` have none.
    blocks_used: held by sequences or pins, of `blocks_total`.
    preemptions: since the start.
    background_running: those of `running` that are background work, `background_waiting` those of
        `waiting`.
    background_begun: those of `background_running` whose prompt is not computed to its end.
    states: slots of the state pool.
    """

    running: int
    waiting: int
    blocks_used: int
    blocks_total: int
    preemptions: int
    background_running: int = 0
    background_waiting: int = 0
    background_begun: int = 0
    states: StateCounts = StateCounts()

    @property
    def foreground_running(self) -> int:
        """Running sequences that are not background work."""
        return self.running - self.background_running

    @property
    def foreground_waiting(self) -> int:
        """Waiting sequences that are not background work."""
        return self.waiting - self.background_waiting

    @property
    def has_both(self) -> bool:
        """Whether there is background work beside other."""
        background = self.background_running + self.background_waiting
        return 0 < background < self.running + self.waiting
