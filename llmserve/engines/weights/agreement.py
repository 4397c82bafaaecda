"""Whether two ways of computing the same logits agree up to rounding, and a prompt to test that."""

from __future__ import annotations

import math
from typing import Any

import torch


def probe(model: Any, length: int) -> torch.Tensor:
    """Token ids (1, length) on the model's device. They do not repeat, so that a wrong position
    shows."""
    count: int = model.get_input_embeddings().num_embeddings
    return torch.arange(1, length + 1, device=model.device)[None] * 7 % count


def agree(expected: torch.Tensor, actual: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether they differ by no more than rounding in `dtype` explains: half of its digits, as a
    share of the range of the logits. Masked logits must be masked in both.
    """
    is_masked = expected <= torch.finfo(expected.dtype).min / 2
    if not torch.equal(is_masked, actual <= torch.finfo(actual.dtype).min / 2):
        return False
    expected, actual = expected[~is_masked], actual[~is_masked]
    tolerance = math.sqrt(torch.finfo(dtype).eps)
    return bool((expected - actual).abs().max() <= tolerance * (expected.max() - expected.min()))
