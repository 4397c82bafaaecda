"""Finds blocks that hold the beginning of a prompt already."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Tokens
from hashlib import blake2b
from typing import Final

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.sequence import Sequence

DIGEST_BYTES: Final = 16
"""Two prompts that meet in 128 bits are not to be expected, nor to be made."""


class PrefixCache:
    """Names full blocks by the tokens in them and all before: a chain of digests.

    A name depends on everything that the block's keys and values depend on, so whoever has the
    same tokens may share it. A salt begins a chain of its own: who does not know it finds nothing.

    Automatic prefix caching as in vLLM (Kwon et al., PagedAttention, 2023).
    """

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size

    def match(self, sequence: Sequence) -> list[int]:
        """Blocks of the longest known beginning; at least one token is left to compute."""
        most = (sequence.num_tokens - 1) // self._block_size
        self._extend(sequence.digests, sequence.token_ids, most, sequence.salt)
        return self._known(sequence.digests[:most])

    def find(self, token_ids: Tokens[int], salt: bytes = b"") -> list[int]:
        """Blocks of the longest known beginning of some tokens, whole blocks only."""
        digests: list[bytes] = []
        self._extend(digests, token_ids, len(token_ids) // self._block_size, salt)
        return self._known(digests)

    def register(self, sequence: Sequence, num_before: int) -> None:
        """Name the blocks that became full since `num_before` tokens were computed."""
        size = self._block_size
        first, last = num_before // size, sequence.num_computed // size
        if first == last:
            return
        self._extend(sequence.digests, sequence.token_ids, last, sequence.salt)
        for index in range(first, last):
            self._pool.cache(sequence.blocks[index], sequence.digests[index])

    def _known(self, digests: list[bytes]) -> list[int]:
        blocks = []
        for digest in digests:
            block = self._pool.find(digest)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def _extend(
        self, digests: list[bytes], token_ids: Tokens[int], count: int, salt: bytes
    ) -> None:
        size = self._block_size
        for index in range(len(digests), count):
            parent = digests[-1] if digests else _root(salt)
            tokens = array("q", token_ids[index * size : (index + 1) * size]).tobytes()
            digests.append(blake2b(parent + tokens, digest_size=DIGEST_BYTES).digest())


def _root(salt: bytes) -> bytes:
    # Personalised, so that no salt can be chosen whose root is the name of somebody's block.
    return blake2b(salt, digest_size=DIGEST_BYTES, person=b"salt").digest()
