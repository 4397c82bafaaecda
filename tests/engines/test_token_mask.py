"""Packed words as limits of logits, and as tokens that may not come: the same tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmserve.engines.token_mask import forbidden_tokens, logit_limits


@pytest.mark.parametrize("vocab", [64, 70, 95, 96, 100, 150])
def test_both_forms_say_the_same_of_any_words(vocab: int) -> None:
    numbers = np.random.default_rng(vocab)
    words = numbers.integers(-(2**31), 2**31, (5, 3), np.int64).astype(np.int32)
    words[0], words[1] = -1, 0
    limits = logit_limits(words, vocab)
    forbidden = forbidden_tokens(torch.from_numpy(words), vocab)
    assert limits.shape == forbidden.shape == (5, vocab)
    assert torch.equal(limits == -torch.inf, forbidden)
    assert torch.equal(limits == torch.inf, ~forbidden)
    for row in range(5):
        for token_id in range(vocab):
            inside = token_id < 96
            allowed = inside and bool(int(words[row, token_id // 32]) >> token_id % 32 & 1)
            assert bool(forbidden[row, token_id]) is not allowed
