"""Whether a newcomer has room beside those who run."""

from __future__ import annotations

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.pins import Pins
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.tables import BlockTables


class Room:
    """Admits with a little to spare: every running stream keeps a block to grow into, so that it
    does not lose its own to a newcomer at once."""

    def __init__(self, pool: BlockPool, tables: BlockTables, pins: Pins) -> None:
        self._pool = pool
        self._tables = tables
        self._pins = pins

    def is_full(self, num_running: int) -> bool:
        """Whether nobody would fit, so that there is no need to look."""
        return 0 < num_running >= self._pool.num_free

    def fits(self, sequence: Sequence, shared: list[int], num_running: int) -> bool:
        """Whether all its tokens and one more fit; where nothing else runs, pins give way."""
        needed = self._tables.num_blocks_for(sequence.num_tokens + 1)
        while True:
            held = sum(1 for block in shared if self._pool.is_held(block))
            if needed - held <= self._pool.num_free - num_running:
                return True
            if num_running or not self._pins.give_way():
                return False
