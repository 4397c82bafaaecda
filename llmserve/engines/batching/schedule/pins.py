"""Prefixes whose blocks are kept, used or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Tokens

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache

Prefix = tuple[bytes, tuple[int, ...]]
"""A salt, and tokens."""


class Pins:
    """Holds blocks of prefixes; at most half of the pool, so that requests keep theirs.

    Where a request would find no room otherwise, pins give way, the oldest first.
    """

    def __init__(self, pool: BlockPool, cache: PrefixCache) -> None:
        self._pool = pool
        self._cache = cache
        self._blocks: dict[Prefix, list[int]] = {}
        # Kept up to date, since prefixes share blocks and the stats are read every step.
        self._holds: Counter[int] = Counter()

    @property
    def holders(self) -> list[list[int]]:
        """The blocks of each prefix."""
        return list(self._blocks.values())

    @property
    def num_blocks(self) -> int:
        """Blocks that are pinned."""
        return len(self._holds)

    def add(self, token_ids: Tokens[int], salt: bytes = b"") -> int:
        """Keep the blocks of a prefix that was computed; returns how many there are, 0 where
        they are gone already or would be more than half of the pool."""
        self.remove(token_ids, salt)
        blocks = self._cache.find(token_ids, salt)
        num_new = sum(1 for block in blocks if block not in self._holds)
        if len(self._holds) + num_new > self._pool.num_blocks // 2:
            return 0
        if blocks:
            for block in blocks:
                self._pool.touch(block)
            self._holds.update(blocks)
            self._blocks[salt, tuple(token_ids)] = blocks
        return len(blocks)

    def remove(self, token_ids: Tokens[int], salt: bytes = b"") -> None:
        """Let go of a prefix, if it is kept."""
        self._release((salt, tuple(token_ids)))

    def give_way(self) -> bool:
        """Let go of the oldest; `False` if there is none."""
        oldest = next(iter(self._blocks), None)
        if oldest is None:
            return False
        self._release(oldest)
        return True

    def _release(self, prefix: Prefix) -> None:
        # From the end: the beginning is worth keeping longest.
        for block in reversed(self._blocks.pop(prefix, [])):
            self._pool.release(block)
            self._holds[block] -= 1
            if not self._holds[block]:
                del self._holds[block]
