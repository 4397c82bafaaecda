"""Whether two ways of computing the same logits agree but for rounding."""

from __future__ import annotations

import math

import torch


def agree(expected: torch.Tensor, actual: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether they differ by no more than rounding in `dtype` explains: half of its digits, as a
    share of what the logits range over. Masked logits must be masked in both.
    """
    is_masked = expected <= torch.finfo(expected.dtype).min / 2
    if not torch.equal(is_masked, actual <= torch.finfo(actual.dtype).min / 2):
        return False
    expected, actual = expected[~is_masked], actual[~is_masked]
    tolerance = math.sqrt(torch.finfo(dtype).eps)
    return bool((expected - actual).abs().max() <= tolerance * (expected.max() - expected.min()))
