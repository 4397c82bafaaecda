"""From a rule's packed words to a mask of tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch


def forbidden_tokens(words: npt.NDArray[np.int32], vocab: int) -> torch.Tensor:
    """Words (num_rows, num_words) as a mask of what may not come next, (num_rows, vocab).

    Tokens beyond the words are forbidden.
    """
    allowed = np.unpackbits(words.view(np.uint8), axis=-1, count=vocab, bitorder="little")
    allowed ^= 1
    return torch.from_numpy(allowed).view(torch.bool)
