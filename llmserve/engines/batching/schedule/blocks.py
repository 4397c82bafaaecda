"""The blocks of the KV cache: which are held, which are free, and what is cached in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from operator import ne

from llmserve.engines.batching.schedule.invariant import require


class BlockPool:
    """Reference counts of all blocks, and which content is cached in which block.

    A block without references is free. If its content has a hash, it stays cached until the block
    is evicted: blocks without a hash are given out first, then the least recently used.

    Automatic prefix caching as in vLLM (Kwon et al., PagedAttention, 2023).
    """

    def __init__(
        self, num_blocks: int, on_evict: Callable[[bytes], None] = lambda content: None
    ) -> None:
        self.num_blocks = num_blocks
        self._on_evict = on_evict
        self._references = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._by_hash: dict[bytes, int] = {}
        self._free = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can give out."""
        return len(self._free) + len(self._cached)

    def allocate(self) -> int:
        """Take a free block, with one reference; there must be one."""
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            self._evict(block)
        self._references[block] = 1
        return block

    def touch(self, block: int) -> None:
        """Add a reference to a block that may have others."""
        if self._references[block] == 0:
            del self._cached[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """Drop one reference."""
        self._references[block] -= 1
        if self._references[block] == 0:
            if self._hashes[block] is None:
                self._free.append(block)
            else:
                self._cached[block] = None

    def is_held(self, block: int) -> bool:
        """Whether it has references."""
        return self._references[block] > 0

    def cache(self, block: int, content: bytes) -> None:
        """Make a full block findable by the hash of its content. If two blocks have the same
        content, the first one stays in the cache."""
        if content not in self._by_hash:
            self._by_hash[content] = block
            self._hashes[block] = content

    def find(self, content: bytes) -> int | None:
        """The block with the content of this hash, whether or not it has references."""
        return self._by_hash.get(content)

    def check(self, holders: list[list[int]]) -> None:
        """Compare the counts with those who hold blocks, and look for every block.

        Raises:
            InvariantViolated: they differ, or a block is lost, or a hash is wrong.
        """
        # In a few passes of built-in functions: an idle engine does this with a large pool.
        expected = [0] * self.num_blocks
        for block in chain.from_iterable(holders):
            require(0 <= block < self.num_blocks, "a block that does not exist is held")
            expected[block] += 1
        require(expected == self._references, "reference counts differ from those of the holders")
        free = {*self._free, *self._cached}
        require(len(free) == self.num_free, "a block is free twice")
        require(len(free) == expected.count(0), "a block is lost")
        is_known = not free or (min(free) >= 0 and max(free) < self.num_blocks)
        require(is_known, "a block that does not exist is free")
        require(not any(map(expected.__getitem__, free)), "a free block is held")
        require(not any(map(self._hashes.__getitem__, self._free)), "an uncached block has a hash")
        cached = self.num_blocks - self._hashes.count(None)
        require(len(self._by_hash) == cached, "a hash is lost")
        wrong = map(ne, map(self._hashes.__getitem__, self._by_hash.values()), self._by_hash)
        require(not any(wrong), "a hash leads to the wrong block")

    def _evict(self, block: int) -> None:
        content = self._hashes[block]
        assert content is not None, "cached blocks have hashes"
        self._hashes[block] = None
        del self._by_hash[content]
        self._on_evict(content)
