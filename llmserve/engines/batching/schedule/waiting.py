"""Sequences that have no blocks yet, or lost them."""

from __future__ import annotations

from collections import deque

from llmserve.engines.batching.schedule.fair_share import FairShare
from llmserve.engines.batching.schedule.sequence import Sequence


class WaitingLine:
    """First come, first served within a caller; among callers, who has had the least.

    Whoever was preempted comes before all who never ran: what they hold up is a stream.
    """

    def __init__(self, shares: FairShare) -> None:
        self._shares = shares
        self._lines: dict[str, deque[Sequence]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, sequence: Sequence) -> None:
        """It comes last of its caller's."""
        self._lines.setdefault(sequence.caller, deque()).append(sequence)
        self._count += 1

    def push_back(self, sequence: Sequence) -> None:
        """It was preempted and comes first of its caller's."""
        self._lines.setdefault(sequence.caller, deque()).appendleft(sequence)
        self._count += 1

    def remove(self, sequence: Sequence) -> None:
        """It waits no more; it must be waiting."""
        line = self._lines[sequence.caller]
        line.remove(sequence)
        self._count -= 1
        if not line:
            del self._lines[sequence.caller]

    def first(self) -> Sequence | None:
        """Who comes next."""
        heads = [line[0] for line in self._lines.values()]
        return min(heads, key=self._order, default=None)

    def _order(self, sequence: Sequence) -> tuple[bool, float]:
        return (sequence.preemptions == 0, self._shares.served(sequence.caller))
