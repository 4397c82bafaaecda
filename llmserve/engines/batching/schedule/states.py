"""What the scheduler asks about recurrent states."""

from __future__ import annotations

from collections.abc import Iterable

from llmserve.engines.batching.schedule.plan import Slice
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.stats import StateCounts


class States:
    """Of a model that has none: every cached block may be shared."""

    @property
    def counts(self) -> StateCounts:
        """Of now."""
        return StateCounts()

    @property
    def has_room(self) -> bool:
        """Whether a newcomer finds a slot."""
        return True

    def deepest(self, hashes: list[bytes]) -> int:
        """How many of these blocks, a chain from the first one on, end before a kept state."""
        return len(hashes)

    def num_shared(self, sequence: Sequence, num_found: int) -> int:
        """With how many of its first `num_found` blocks, which are cached, a newcomer may begin."""
        return num_found

    def open(self, sequence: Sequence, num_shared: int, num_found: int) -> None:
        """Give a newcomer a slot; there must be one. It begins after so many shared blocks."""

    def close(self, sequence: Sequence) -> None:
        """Take the slot back; checkpoints stay."""

    def cut(self, sequence: Sequence, length: int) -> int:
        """How many of so many tokens the next slice takes, so that it ends where a state should be
        kept."""
        return length

    def renew(self) -> None:
        """A step is planned: what an earlier one was to keep, and never did, is given up."""

    def piece(self, part: Slice) -> Slice:
        """A planned slice, with the slots that its state comes from and is kept in."""
        return part

    def commit(self, part: Slice) -> None:
        """A slice was computed, and its blocks are cached."""

    def pin(self, content: bytes) -> bool:
        """Hold the state that is kept after the block with this hash; `False` if pins would take
        more than half of the slots."""
        return True

    def unpin(self, content: bytes) -> None:
        """The opposite of `pin`."""

    def forget(self, content: bytes) -> None:
        """The block with this hash was evicted."""

    def check(self, running: Iterable[Sequence]) -> None:
        """Look for every slot.

        Raises:
            InvariantViolated: one is lost or has two owners, or not those that run have one.
        """
