"""The scheduler at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Counts of now, and since the start.

    Attributes:
        running: sequences that have blocks; `waiting` have none.
        blocks_used: held by sequences or pins, of `blocks_total`.
        blocks_cached: free ones whose content can still be found.
        blocks_pinned: of those used.
        prefix_queries: prompt tokens looked up since the start; `prefix_hits` of them found.
        preemptions: since the start.
    """

    running: int
    waiting: int
    blocks_used: int
    blocks_total: int
    blocks_cached: int
    blocks_pinned: int
    prefix_queries: int
    prefix_hits: int
    preemptions: int
