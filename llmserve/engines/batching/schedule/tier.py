"""Sequences of one class: background work, or all the others."""

from __future__ import annotations

from llmserve.engines.batching.schedule.fair_share import FairShare
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.waiting_queue import WaitingQueue


class Tier:
    """Those that wait and those that run; callers are served fairly among themselves, and what they
    get here is charged to them here only."""

    def __init__(self) -> None:
        self.shares = FairShare()
        self.waiting = WaitingQueue(self.shares)
        self.running: dict[Sequence, None] = {}  # in the order of admission
        self.preemptions = 0

    def __bool__(self) -> bool:
        return bool(self.running) or len(self.waiting) > 0

    def parts(self) -> tuple[list[Sequence], list[Sequence]]:
        """Running sequences that want their next token, and those whose prompt is not computed to
        its end."""
        decoding: list[Sequence] = []
        begun: list[Sequence] = []
        for sequence in self.running:
            is_begun = len(sequence.token_ids) - sequence.num_computed > 1
            (begun if is_begun else decoding).append(sequence)
        return decoding, begun

    @property
    def num_begun(self) -> int:
        """Running sequences whose prompt is not computed to its end."""
        return sum(len(s.token_ids) - s.num_computed > 1 for s in self.running)

    def least_served_first(self, sequences: list[Sequence]) -> list[Sequence]:
        """In the order in which they come if not all can; a caller's own stay as they are."""
        return sorted(sequences, key=lambda sequence: self.shares.served(sequence.caller))

    def victim(self) -> Sequence:
        """The one admitted last, of the caller that was served most; at least one must run."""
        order = {sequence: number for number, sequence in enumerate(self.running)}
        return max(order, key=lambda s: (self.shares.served(s.caller), order[s]))

    def charge(self, sequence: Sequence, prefilled: int, decoded: int) -> None:
        """Count tokens that were computed for a sequence."""
        self.shares.charge(sequence.caller, sequence.priority, prefilled, decoded)
