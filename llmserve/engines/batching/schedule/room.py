"""Whether a newcomer has room beside the sequences that run."""

from __future__ import annotations

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.pins import Pins
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.states import States
from llmserve.engines.batching.schedule.tables import BlockTables


class Room:
    """Keeps a reserve: one free block for every running sequence to grow into, so that it does not
    lose its own to a newcomer at once."""

    def __init__(self, pool: BlockPool, tables: BlockTables, states: States, pins: Pins) -> None:
        self._pool = pool
        self._tables = tables
        self._states = states
        self._pins = pins

    def is_full(self, num_running: int) -> bool:
        """Whether no newcomer would fit, so that there is no need to look at one."""
        return 0 < num_running >= self._pool.num_free or not self._states.has_room

    def fits(
        self, sequence: Sequence, shared: list[int], num_running: int, *, drops_pins: bool
    ) -> bool:
        """Whether all its tokens, and one more if any is generated, fit beside so many that run,
        and its state; perhaps pins are dropped for it."""
        if not self._states.has_room:
            return False
        needed = self._tables.num_blocks_for(sequence.num_tokens + min(1, sequence.max_new_tokens))
        while True:
            held = sum(1 for block in shared if self._pool.is_held(block))
            if needed - held <= self._pool.num_free - num_running:
                return True
            if not drops_pins or not self._pins.drop_oldest():
                return False
