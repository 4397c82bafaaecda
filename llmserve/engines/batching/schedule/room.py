"""Whether a newcomer has room beside those who run."""

from __future__ import annotations

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.pins import Pins
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.tables import BlockTables


class Room:
    """Admits with a little to spare: every running stream keeps a block to grow into, so that it
    does not lose its own to a newcomer at once.

    `promised` are blocks that begun prompts will still want, `num_running` sequences run.
    """

    def __init__(self, pool: BlockPool, tables: BlockTables, pins: Pins) -> None:
        self._pool = pool
        self._tables = tables
        self._pins = pins

    def is_full(self, num_running: int, promised: int) -> bool:
        """Whether nobody would fit, so that there is no need to look."""
        return num_running > 0 and self._spare(num_running, promised) < 1

    def fits(self, sequence: Sequence, shared: list[int], num_running: int, promised: int) -> bool:
        """Whether all its tokens and one more fit; where nothing else runs, pins give way."""
        needed = self._tables.num_blocks_for(sequence.num_tokens + 1)
        while True:
            held = sum(1 for block in shared if self._pool.is_held(block))
            if needed - held <= self._spare(num_running, promised):
                return True
            if num_running or not self._pins.give_way():
                return False

    def _spare(self, num_running: int, promised: int) -> int:
        return self._pool.num_free - promised - num_running
