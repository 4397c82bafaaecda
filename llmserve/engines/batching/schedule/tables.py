"""Gives sequences their blocks, and takes them back."""

from __future__ import annotations

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.sequence import Sequence


class BlockTables:
    """Extends and empties `Sequence.blocks`. Which sequence gets blocks is decided elsewhere.

    A sequence writes only after the blocks that it shares, so into blocks that it holds alone.
    """

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size

    def num_blocks_for(self, num_tokens: int) -> int:
        """How many blocks so many tokens take; the last may be partly full."""
        return -(-num_tokens // self._block_size)

    def num_missing(self, sequence: Sequence, num_tokens: int) -> int:
        """How many blocks a sequence lacks to hold so many tokens."""
        return -(-num_tokens // self._block_size) - len(sequence.blocks)

    def open(self, sequence: Sequence, shared: list[int]) -> None:
        """Start a table with full blocks that are cached; their tokens need not be computed."""
        for block in shared:
            self._pool.touch(block)
        sequence.blocks = list(shared)
        sequence.num_computed = len(shared) * self._block_size

    def extend(self, sequence: Sequence, num_tokens: int) -> None:
        """Allocate blocks up to so many tokens; there must be enough free ones."""
        for _ in range(self.num_missing(sequence, num_tokens)):
            sequence.blocks.append(self._pool.allocate())

    def close(self, sequence: Sequence) -> None:
        """Give every block back."""
        # From the end: the beginning of a prompt is worth keeping longest.
        for block in reversed(sequence.blocks):
            self._pool.release(block)
        sequence.blocks = []
