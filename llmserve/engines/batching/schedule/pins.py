"""Prefixes whose blocks are kept, whether or not a sequence uses them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache
from llmserve.engines.batching.schedule.states import States


@dataclass(frozen=True, slots=True)
class _Pin:
    """`content`: the hash of the last block, with which a recurrent state may be kept."""

    blocks: list[int]
    content: bytes


class Pins:
    """Holds the blocks of prefixes; at most half of the pool, so that requests keep theirs. With
    recurrent states, up to where a state is kept, and that one, too.

    If a request would find no room otherwise, pins are dropped, the oldest first.
    """

    def __init__(self, pool: BlockPool, cache: PrefixCache, states: States) -> None:
        self._pool = pool
        self._cache = cache
        self._states = states
        self._pins: dict[tuple[int, ...], _Pin] = {}  # by the prefix's tokens, oldest first

    @property
    def holders(self) -> list[list[int]]:
        """The blocks of each prefix."""
        return [pin.blocks for pin in self._pins.values()]

    def add(self, token_ids: tuple[int, ...]) -> int:
        """Keep the blocks of a prefix that was computed without a salt; returns how many there
        are, 0 if they were evicted meanwhile or pins would take more than half of the pool."""
        self._drop(token_ids)
        hashes = self._cache.hashes(token_ids)
        found = self._cache.blocks(hashes)
        blocks = found[: self._states.deepest(hashes[: len(found)])]
        pinned = set(chain(blocks, *self.holders))
        if not blocks or len(pinned) > self._pool.num_blocks // 2:
            return 0
        content = hashes[len(blocks) - 1]
        if not self._states.pin(content):
            return 0
        for block in blocks:
            self._pool.touch(block)
        self._pins[token_ids] = _Pin(blocks, content)
        return len(blocks)

    def drop_oldest(self) -> bool:
        """Release the blocks of the oldest pin; `False` if there is none."""
        oldest = next(iter(self._pins), None)
        if oldest is None:
            return False
        self._drop(oldest)
        return True

    def _drop(self, token_ids: tuple[int, ...]) -> None:
        pin = self._pins.pop(token_ids, None)
        if pin is None:
            return
        # From the end: the beginning is worth keeping longest.
        for block in reversed(pin.blocks):
            self._pool.release(block)
        self._states.unpin(pin.content)
