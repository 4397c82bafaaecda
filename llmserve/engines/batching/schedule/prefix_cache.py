"""Finds blocks that already hold the beginning of a prompt."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import Final

from llmserve.engines.adapters.segment import NO_ADAPTER
from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.sequence import Sequence

HASH_BYTES: Final = 16
"""With 128 bits no two different prompts will have the same hash, by chance or by design."""


class PrefixCache:
    """Hashes full blocks by their tokens and all tokens before them: a chain of hashes.

    A hash depends on everything that the block's keys and values depend on, so a prompt with the
    same tokens may share it. Each salt begins a chain of its own for each adapter: without both
    nothing is found.

    Automatic prefix caching as in vLLM (Kwon et al., PagedAttention, 2023).
    """

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size

    def match(self, sequence: Sequence) -> list[int]:
        """Blocks of the longest cached prefix that leaves at least one token to compute."""
        most = (sequence.num_tokens - 1) // self._block_size
        self.extend_hashes(sequence, most)
        return self.blocks(sequence.block_hashes[:most])

    def hashes(self, token_ids: tuple[int, ...]) -> list[bytes]:
        """Of the whole blocks of some tokens without salt and adapter."""
        hashes: list[bytes] = []
        self._extend(hashes, token_ids, len(token_ids) // self._block_size, _root(""))
        return hashes

    def blocks(self, hashes: list[bytes]) -> list[int]:
        """The blocks of a chain of hashes, up to the first one that is not cached."""
        blocks = []
        for content in hashes:
            block = self._pool.find(content)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def extend_hashes(self, sequence: Sequence, count: int) -> None:
        """Compute the hashes of a sequence's first `count` blocks, which are full of tokens."""
        root = _root(sequence.cache_salt, sequence.adapter_id)
        self._extend(sequence.block_hashes, sequence.token_ids, count, root)

    def register(self, sequence: Sequence, num_before: int) -> None:
        """Cache the blocks that became full since `num_before` tokens were computed."""
        size = self._block_size
        first, last = num_before // size, sequence.num_computed // size
        if first == last:
            return
        self.extend_hashes(sequence, last)
        for index in range(first, last):
            self._pool.cache(sequence.blocks[index], sequence.block_hashes[index])

    def _extend(
        self,
        hashes: list[bytes],
        token_ids: list[int] | tuple[int, ...],
        count: int,
        root: bytes,
    ) -> None:
        size = self._block_size
        for index in range(len(hashes), count):
            parent = hashes[-1] if hashes else root
            tokens = array("q", token_ids[index * size : (index + 1) * size]).tobytes()
            hashes.append(blake2b(parent + tokens, digest_size=HASH_BYTES).digest())


def _root(cache_salt: str, adapter_id: int = NO_ADAPTER) -> bytes:
    # Any string has such an encoding, surrogates included, and no two have the same.
    text = cache_salt.encode("utf-8", "surrogatepass")
    # Personalised, so that no salt can be chosen whose root is the hash of somebody's block; and
    # salted in BLAKE2's own way, so that none is another adapter's.
    adapter = adapter_id.to_bytes(8, "little")
    return blake2b(text, digest_size=HASH_BYTES, person=b"salt", salt=adapter).digest()
