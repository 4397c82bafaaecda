"""Prefixes whose blocks are kept, used or not."""

from __future__ import annotations

from collections.abc import Sequence as Tokens

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache


class Pins:
    """Holds blocks of prefixes; at most half of the pool, so that requests keep theirs.

    Where a request would find no room otherwise, pins give way, the oldest first.
    """

    def __init__(self, pool: BlockPool, cache: PrefixCache) -> None:
        self._pool = pool
        self._cache = cache
        self._blocks: dict[tuple[int, ...], list[int]] = {}

    @property
    def holders(self) -> list[list[int]]:
        """The blocks of each prefix."""
        return list(self._blocks.values())

    @property
    def num_blocks(self) -> int:
        """Blocks that are pinned."""
        return len({block for blocks in self._blocks.values() for block in blocks})

    def add(self, token_ids: Tokens[int]) -> int:
        """Keep the blocks of a prefix that was computed; returns how many there are, 0 where
        they are gone already or would be more than half of the pool."""
        self.remove(token_ids)
        blocks = self._cache.find(token_ids)
        pinned = {block for held in self._blocks.values() for block in held}
        if len(pinned.union(blocks)) > self._pool.num_blocks // 2:
            return 0
        if blocks:
            for block in blocks:
                self._pool.share(block)
            self._blocks[tuple(token_ids)] = blocks
        return len(blocks)

    def remove(self, token_ids: Tokens[int]) -> None:
        """Let go of a prefix, if it is kept."""
        for block in self._blocks.pop(tuple(token_ids), []):
            self._pool.release(block)

    def give_way(self) -> bool:
        """Let go of the oldest; `False` if there is none."""
        oldest = next(iter(self._blocks), None)
        if oldest is None:
            return False
        self.remove(oldest)
        return True
