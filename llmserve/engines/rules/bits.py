"""Token ids as bits of a rule's words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmserve.engines.token_rule import Words

Ids = npt.NDArray[np.int32]
"""(num_ids,): token ids, in any order and more than once if it must be."""


def as_ids(token_ids: tuple[int, ...]) -> Ids:
    """The ids as an array."""
    return np.array(token_ids, np.int32)


def forbid(words: Words, ids: Ids) -> None:
    """Clear the bits of these tokens; of ids beyond the words there are none."""
    places, bits = _bits(words, ids)
    np.bitwise_and.at(words, places, ~bits)


def allow_only(words: Words, ids: Ids) -> None:
    """Clear the bits of all other tokens."""
    places, bits = _bits(words, ids)
    allowed = np.zeros_like(words)
    np.bitwise_or.at(allowed, places, bits)
    np.bitwise_and(words, allowed, out=words)


def _bits(words: Words, ids: Ids) -> tuple[Ids, Words]:
    """For each id that has a bit: the index of its word, and a word with that bit alone."""
    ids = ids[ids < 32 * len(words)]
    return ids >> 5, np.left_shift(np.int32(1), ids & 31)
