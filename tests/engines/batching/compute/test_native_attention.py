"""The native attention: tasks of few query lanes, as at decode, run on kernels of their own, which
must say what those for whole tiles of lanes say. These are taken where a block is no multiple of 16
keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from native_models import (
    batch,
    bfloat16_error,
    cache_for,
    error,
    native,
    sequence,
    shaped_model,
    tokens,
    true_logits,
)

LENGTHS = (1, 2, 15, 16, 17, 31, 32, 33, 64, 95)


def grouped(group: int, head_dim: int, window: int | None = None) -> Any:
    """A model with `group` query heads for each of two KV heads."""
    settings: dict[str, Any] = {
        "hidden_size": 32 * group,
        "intermediate_size": 64,
        "num_attention_heads": 2 * group,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
    }
    if window is None:
        return shaped_model("llama", **settings)
    return shaped_model("mistral", **settings, sliding_window=window)


def last_logits(model: Any, block_size: int, new_tokens: int, use_tiles: bool) -> torch.Tensor:
    """Of rows of all lengths in one step, which computes so many of each row's newest tokens."""
    decoder, cache = native(model, use_tiles=use_tiles), cache_for(model, block_size)
    free = torch.randperm(cache.num_blocks, generator=torch.Generator().manual_seed(3)).tolist()
    rows = []
    for length in LENGTHS:
        blocks = [free.pop() for _ in range(-(-length // block_size))]
        rows.append(sequence(tokens(model, length, length), blocks))
    starts = [max(0, row.num_tokens - new_tokens) for row in rows]
    before = [(row, 0, start) for row, start in zip(rows, starts, strict=True) if start]
    decoder(batch(cache, *before), cache)
    step = [(row, start, row.num_tokens) for row, start in zip(rows, starts, strict=True)]
    return decoder(batch(cache, *step), cache)


@pytest.mark.parametrize("use_tiles", [False, True])
@pytest.mark.parametrize("window", [None, 20], ids=["all", "window"])
@pytest.mark.parametrize("head_dim", [32, 64, 96, 128])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7, 8, 9])
def test_few_lanes_say_what_tiles_of_lanes_say(
    group: int, head_dim: int, window: int | None, use_tiles: bool
) -> None:
    model = grouped(group, head_dim, window)
    few = last_logits(model, 16, 1, use_tiles)
    assert error(few, last_logits(model, 8, 1, use_tiles)) < 0.01


@pytest.mark.parametrize("use_tiles", [False, True])
@pytest.mark.parametrize("window", [None, 3, 40], ids=["all", "narrow", "wide"])
@pytest.mark.parametrize("new_tokens", [2, 4, 7])
def test_the_lanes_may_be_tokens_that_see_different_keys(
    new_tokens: int, window: int | None, use_tiles: bool
) -> None:
    model = grouped(1, 64, window)
    few = last_logits(model, 16, new_tokens, use_tiles)
    assert error(few, last_logits(model, 8, new_tokens, use_tiles)) < 0.01


@pytest.mark.parametrize("group", [3, 8])
def test_few_lanes_say_what_transformers_says(group: int) -> None:
    model = grouped(group, 64)
    actual = last_logits(model, 16, 1, use_tiles=False)
    for got, length in zip(actual, LENGTHS, strict=True):
        ids = tokens(model, length, length)
        expected = true_logits(model, ids)
        assert error(got, expected[-1]) <= 1.5 * bfloat16_error(model, ids, expected)


def test_a_row_says_the_same_whatever_else_is_in_the_step() -> None:
    model = grouped(3, 64)
    decoder, cache = native(model, use_tiles=False), cache_for(model)
    ids = tokens(model, 50)
    row, other = sequence(ids, range(4)), sequence(tokens(model, 80, 1), range(4, 9))
    decoder(batch(cache, (row, 0, 49), (other, 0, 79)), cache)
    alone = decoder(batch(cache, (row, 49, 50)), cache)
    beside = decoder(batch(cache, (row, 49, 50), (other, 79, 80)), cache)
    assert error(beside[0], alone[0]) < 0.01
