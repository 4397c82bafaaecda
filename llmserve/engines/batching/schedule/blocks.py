"""The blocks of the KV cache: who holds them, and which may be given out."""

from __future__ import annotations

from collections import OrderedDict


class BlockPool:
    """Reference counts of all blocks. A free block that has a name keeps its content until it is
    given out again; blocks without one go first, then the least recently used.

    Automatic prefix caching as in vLLM (Kwon et al., PagedAttention, 2023).
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._names: list[bytes | None] = [None] * num_blocks
        self._by_name: dict[bytes, int] = {}
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._kept: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can give out."""
        return len(self._blank) + len(self._kept)

    @property
    def num_kept(self) -> int:
        """Free blocks whose content can still be found."""
        return len(self._kept)

    def allocate(self) -> int:
        """A block of one's own; there must be a free one."""
        if self._blank:
            block = self._blank.pop()
        else:
            block, _ = self._kept.popitem(last=False)
            self._forget(block)
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        """Hold a block that others may hold too."""
        if self._references[block] == 0:
            del self._kept[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """Let go of a block once."""
        self._references[block] -= 1
        if self._references[block] == 0:
            if self._names[block] is None:
                self._blank.append(block)
            else:
                self._kept[block] = None

    def is_held(self, block: int) -> bool:
        """Whether anybody holds it."""
        return self._references[block] > 0

    def name(self, block: int, name: bytes) -> None:
        """Make a full block findable. Of two blocks with the same content the first stays it."""
        if name not in self._by_name:
            self._by_name[name] = block
            self._names[block] = name

    def find(self, name: bytes) -> int | None:
        """The block of this name, held or not."""
        return self._by_name.get(name)

    def check(self, holders: list[list[int]]) -> None:
        """For tests: the counts are those of these holders, and every block is somewhere.

        Raises:
            AssertionError: they are not.
        """
        expected = [0] * self.num_blocks
        for blocks in holders:
            for block in blocks:
                expected[block] += 1
        assert expected == self._references, "references do not match their holders"
        free = set(self._blank) | set(self._kept)
        assert len(free) == self.num_free, "a block is free twice"
        assert free == {b for b, count in enumerate(expected) if count == 0}, "a block is lost"
        assert all(self._names[block] is None for block in self._blank), "a blank block has a name"
        assert all(self._names[b] == name for name, b in self._by_name.items()), "a wrong name"

    def _forget(self, block: int) -> None:
        name = self._names[block]
        assert name is not None, "kept blocks have names"
        self._names[block] = None
        del self._by_name[name]
