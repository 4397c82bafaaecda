"""Attention over inputs in one row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llmserve.engines.encoding import packing
from llmserve.engines.encoding.packing import NotPackable, packed_attention

LENGTHS = [3, 1, 5]


def module(*, is_causal: bool = False) -> SimpleNamespace:
    return SimpleNamespace(is_causal=is_causal)


@pytest.fixture(autouse=True)
def lengths() -> None:
    packing.of_thread.lengths = LENGTHS


@pytest.mark.parametrize("name", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_what_goes_beyond_keys_and_values_is_refused_by_name(name: str) -> None:
    tensor = torch.zeros(1, 2, sum(LENGTHS), 4)
    with pytest.raises(NotPackable, match=name):
        packed_attention(module(), tensor, tensor, tensor, None, **{name: 4})


@pytest.mark.parametrize("is_causal", [False, True])
def test_each_input_attends_to_itself_alone(is_causal: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, sum(LENGTHS), 4) for heads in (4, 2, 2))
    packed, _ = packed_attention(module(is_causal=is_causal), query, key, value, None, scaling=0.3)
    begin = 0
    for length in LENGTHS:
        rows = slice(begin, begin + length)
        wanted = scaled_dot_product_attention(
            query[:, :, rows],
            key[:, :, rows].repeat_interleave(2, dim=1),
            value[:, :, rows].repeat_interleave(2, dim=1),
            scale=0.3,
            is_causal=is_causal,
        )
        torch.testing.assert_close(packed[:, rows], wanted.transpose(1, 2))
        begin += length
