"""From a rule's packed words to tokens that may not come."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

_BITS: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
# (256, 8): of the eight tokens that a byte stands for
_LIMITS: Final = np.where(_BITS == 1, np.inf, -np.inf).astype(np.float32)


def logit_limits(words: npt.NDArray[np.int32], vocab: int) -> torch.Tensor:
    """Words (num_rows, num_words) as limits (num_rows, vocab): infinite for tokens that may come
    next, minus infinite for others and for those beyond the words.

    The minimum with these is a mask. Filling by a boolean mask takes five times as long on a CPU.
    """
    limits = torch.from_numpy(np.take(_LIMITS, words.view(np.uint8), axis=0)).flatten(1)
    missing = vocab - limits.shape[1]
    if missing > 0:
        limits = torch.nn.functional.pad(limits, (0, missing), value=-torch.inf)
    return limits[:, :vocab]


def forbidden_tokens(words: torch.Tensor, vocab: int) -> torch.Tensor:
    """Words (num_rows, num_words) int32 as (num_rows, vocab) bool: those `logit_limits` makes minus
    infinite. On the words' device, for which few bytes are moved."""
    shifts = torch.arange(8, dtype=torch.uint8, device=words.device)
    bits = (words.view(torch.uint8)[:, :, None] >> shifts) & 1  # (num_rows, 4 * num_words, 8)
    forbidden = (bits == 0).flatten(1)
    missing = vocab - forbidden.shape[1]
    if missing > 0:
        forbidden = torch.nn.functional.pad(forbidden, (0, missing), value=True)
    return forbidden[:, :vocab]
