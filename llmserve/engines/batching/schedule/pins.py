"""Prefixes whose blocks are kept, whether or not a sequence uses them."""

from __future__ import annotations

from itertools import chain

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache


class Pins:
    """Holds the blocks of prefixes; at most half of the pool, so that requests keep theirs.

    If a request would find no room otherwise, pins are dropped, the oldest first.
    """

    def __init__(self, pool: BlockPool, cache: PrefixCache) -> None:
        self._pool = pool
        self._cache = cache
        self._blocks: dict[tuple[int, ...], list[int]] = {}  # by the prefix's tokens, oldest first

    @property
    def holders(self) -> list[list[int]]:
        """The blocks of each prefix."""
        return list(self._blocks.values())

    def add(self, token_ids: tuple[int, ...]) -> int:
        """Keep the blocks of a prefix that was computed without a salt; returns how many there
        are, 0 if they were evicted meanwhile or pins would take more than half of the pool."""
        self._drop(token_ids)
        blocks = self._cache.find(token_ids)
        pinned = set(chain(blocks, *self._blocks.values()))
        if not blocks or len(pinned) > self._pool.num_blocks // 2:
            return 0
        for block in blocks:
            self._pool.touch(block)
        self._blocks[token_ids] = blocks
        return len(blocks)

    def drop_oldest(self) -> bool:
        """Release the blocks of the oldest pin; `False` if there is none."""
        oldest = next(iter(self._blocks), None)
        if oldest is None:
            return False
        self._drop(oldest)
        return True

    def _drop(self, token_ids: tuple[int, ...]) -> None:
        # From the end: the beginning is worth keeping longest.
        for block in reversed(self._blocks.pop(token_ids, [])):
            self._pool.release(block)
