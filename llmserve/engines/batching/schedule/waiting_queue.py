"""Sequences that have no blocks yet, or lost them."""

from __future__ import annotations

from collections import deque

from llmserve.engines.batching.schedule.fair_share import FairShare
from llmserve.engines.batching.schedule.sequence import Sequence


class WaitingQueue:
    """First come, first served for each caller; among callers, the one that was served least.

    A preempted sequence comes before all that never ran: somebody is reading its stream already.
    """

    def __init__(self, shares: FairShare) -> None:
        self._shares = shares
        self._queues: dict[str, deque[Sequence]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, sequence: Sequence) -> None:
        """Put it last among its caller's."""
        self._queues.setdefault(sequence.caller, deque()).append(sequence)
        self._count += 1

    def push_front(self, sequence: Sequence) -> None:
        """It was preempted: put it first among its caller's."""
        self._queues.setdefault(sequence.caller, deque()).appendleft(sequence)
        self._count += 1

    def remove(self, sequence: Sequence) -> None:
        """Take it out; it must be waiting."""
        queue = self._queues[sequence.caller]
        queue.remove(sequence)
        self._count -= 1
        if not queue:
            del self._queues[sequence.caller]

    def first(self) -> Sequence | None:
        """The next one to run."""
        heads = [queue[0] for queue in self._queues.values()]
        return min(heads, key=self._order, default=None)

    def _order(self, sequence: Sequence) -> tuple[bool, float]:
        return (sequence.num_preemptions == 0, self._shares.served(sequence.caller))
