"""The native attention: tasks of few query lanes, as at decode, run on kernels of their own, which
must say what those for whole tiles of lanes say. These are taken where a block is no multiple of 16
keys."""

from __future__ import annotations

import functools
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from make_model import make_model
from native_models import (
    PATHS,
    PLAIN,
    batch,
    bfloat16_error,
    cache_for,
    error,
    kernels,
    native,
    sequence,
    shaped_model,
    tokens,
    true_logits,
)
from paged import filled_cache, paged_batch

from llmserve.domain import ModelSpec
from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.native.attention import NativeAttention
from llmserve.engines.batching.compute.on_cpu import _forward
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.weights.loading import load_model

LENGTHS = (1, 2, 15, 16, 17, 31, 32, 33, 64, 95)


@functools.lru_cache(maxsize=1)
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


def last_logits(model: Any, block_size: int, new_tokens: int, path: str) -> torch.Tensor:
    """Of rows of all lengths in one step, which computes so many of each row's newest tokens."""
    decoder, cache = native(model, path=path), cache_for(model, block_size)
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


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("window", [None, 20], ids=["all", "window"])
@pytest.mark.parametrize("head_dim", [32, 64, 96, 128])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7, 8, 9])
def test_few_lanes_say_what_tiles_of_lanes_say(
    group: int, head_dim: int, window: int | None, path: str
) -> None:
    model = grouped(group, head_dim, window)
    few = last_logits(model, 16, 1, path)
    assert error(few, last_logits(model, 8, 1, path)) < 0.01


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("window", [None, 3, 40], ids=["all", "narrow", "wide"])
@pytest.mark.parametrize("new_tokens", [2, 4, 7])
def test_the_lanes_may_be_tokens_that_see_different_keys(
    new_tokens: int, window: int | None, path: str
) -> None:
    model = grouped(1, 64, window)
    few = last_logits(model, 16, new_tokens, path)
    assert error(few, last_logits(model, 8, new_tokens, path)) < 0.01


@pytest.mark.parametrize("group", [3, 8])
def test_few_lanes_say_what_transformers_says(group: int) -> None:
    model = grouped(group, 64)
    actual = last_logits(model, 16, 1, path=PLAIN)
    for got, length in zip(actual, LENGTHS, strict=True):
        ids = tokens(model, length, length)
        expected = true_logits(model, ids)
        assert error(got, expected[-1]) <= 1.5 * bfloat16_error(model, ids, expected)


def test_a_row_says_the_same_whatever_else_is_in_the_step() -> None:
    model = grouped(3, 64)
    decoder, cache = native(model, path=PLAIN), cache_for(model)
    ids = tokens(model, 50)
    row, other = sequence(ids, range(4)), sequence(tokens(model, 80, 1), range(4, 9))
    decoder(batch(cache, (row, 0, 49), (other, 0, 79)), cache)
    alone = decoder(batch(cache, (row, 49, 50)), cache)
    beside = decoder(batch(cache, (row, 49, 50), (other, 79, 80)), cache)
    assert error(beside[0], alone[0]) < 0.01


class Otherwise:
    """What is asked where the kernels do not suit."""

    def __init__(self) -> None:
        self.asked: list[Variant] = []

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        self.asked.append(variant)
        return query


ROWS = [(1, 1), (40, 1), (95, 1), (33, 1), (70, 20), (5, 5), (64, 33)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("window", [None, 1, 24])
@pytest.mark.parametrize(
    ("query_heads", "kv_heads", "head_dim"), [(9, 3, 64), (4, 4, 16), (20, 1, 32), (6, 2, 48)]
)
def test_a_models_own_code_may_attend_by_the_kernels(
    query_heads: int, kv_heads: int, head_dim: int, window: int | None, path: str
) -> None:
    attention = NativeAttention(kernels(path=path), Otherwise())
    for block_size in (16, 7):
        cache = filled_cache(
            LayerShape(kv_heads, head_dim),
            num_blocks=64,
            block_size=block_size,
            dtype=torch.bfloat16,
        )
        step = paged_batch(ROWS, block_size=block_size, num_blocks=64)
        query = torch.randn(query_heads, len(step.token_ids), head_dim).bfloat16().transpose(0, 1)
        variant = Variant(scale=0.3, window=window)
        actual = attention.attend(cache, 0, step, query, variant)
        expected = TorchAttention().attend(cache, 0, step, query.float(), variant)
        assert actual.shape == query.shape
        # Weights are rounded to bfloat16 before they meet the values, and so is the result.
        assert error(actual, expected) < 0.005


@pytest.mark.parametrize(
    "variant",
    [
        Variant(1.0, softcap=5.0), Variant(1.0, sinks=torch.zeros(2)), Variant(-1.0),
        Variant(1.0, chunk=16),
    ],
)  # fmt: skip
def test_what_the_kernels_do_not_know_is_left_to_others(variant: Variant) -> None:
    otherwise = Otherwise()
    attention = NativeAttention(kernels(), otherwise)
    cache = filled_cache(LayerShape(1, 32), num_blocks=4, block_size=16, dtype=torch.bfloat16)
    step = paged_batch([(5, 1)], block_size=16, num_blocks=4)
    query = torch.randn(1, 2, 32).bfloat16()
    assert attention.attend(cache, 0, step, query, variant) is query
    single = filled_cache(LayerShape(1, 32), num_blocks=4, block_size=16)
    exact = query.float()
    assert attention.attend(single, 0, step, exact, Variant(1.0)) is exact
    assert attention.attend(cache, 0, step, exact, Variant(1.0)) is exact
    uneven = filled_cache(LayerShape(1, 32, 16), num_blocks=4, block_size=16, dtype=torch.bfloat16)
    assert attention.attend(uneven, 0, step, query, Variant(1.0)) is query
    assert otherwise.asked == [variant, Variant(1.0), Variant(1.0), Variant(1.0)]


def test_blocks_and_rows_outside_of_the_cache_are_refused() -> None:
    attention = NativeAttention(kernels(), Otherwise())
    cache = filled_cache(LayerShape(1, 32), num_blocks=4, block_size=16, dtype=torch.bfloat16)
    query = torch.randn(1, 2, 32).bfloat16()
    step = paged_batch([(5, 1)], block_size=16, num_blocks=4)
    step.block_tables[0, 0] = 4
    with pytest.raises(ValueError, match="blocks"):
        attention.attend(cache, 0, step, query, Variant(1.0))
    step = paged_batch([(5, 1)], block_size=16, num_blocks=4)
    step.context_lengths[0] = 17
    with pytest.raises(ValueError, match="rows"):
        attention.attend(cache, 0, step, query, Variant(1.0))


@pytest.mark.parametrize(
    "preset",
    [
        "tiny-gemma2", "tiny-gemma3", "tiny-phi3", "tiny-gpt2", "tiny-gpt-neox", "tiny-olmo2",
        "tiny-starcoder2", "tiny-cohere", "tiny-stablelm", "tiny-mixtral", "tiny-qwen3-moe",
        "tiny-gpt-oss",
    ],
)  # fmt: skip
def test_families_that_the_decoder_does_not_know_say_what_transformers_says(
    preset: str, tmp_path: Path
) -> None:
    make_model(preset, tmp_path)
    spec = ModelSpec(preset, path=tmp_path, dtype="bfloat16", device="cpu")
    loaded = load_model(spec, tmp_path, lambda progress: None)
    ids = tokens(loaded.model, 60)
    expected = true_logits(loaded.model, ids)
    allowed = bfloat16_error(loaded.model, ids, expected)
    shape = cache_shape(loaded)
    cache = KVCache(
        shape.layers,
        num_blocks=16,
        block_size=16,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )
    forward, _, description, close = _forward(loaded.model, kernels(), shape)
    try:
        assert description.startswith("transformers' code, attention and")
        row = sequence(ids, [9, 3, 11, 6])
        with torch.inference_mode():
            logits = [forward(batch(cache, (row, 0, 45)), cache)]
            logits += [forward(batch(cache, (row, i, i + 1)), cache) for i in range(45, 60)]
    finally:
        close()
    errors = [error(*pair) for pair in zip(torch.cat(logits), expected[44:], strict=True)]
    # Not of each: where two experts are nearly as good, rounding chooses another one.
    assert statistics.median(errors) <= 1.2 * allowed
