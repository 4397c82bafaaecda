"""The native decoder against transformers' own code.

Both round to bfloat16, in different places; the yardstick is the same model in float32. The native
decoder rounds less often than transformers does in bfloat16 (its residual stream, norms, rotation
and softmax are float32), so its error may not be larger than that of transformers. A wrong mask,
position or head gives errors of the size of the logits themselves.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from native_models import (
    NUM_BLOCKS,
    PATHS,
    PLAIN,
    TILES,
    batch,
    bfloat16_error,
    cache_for,
    error,
    kernels,
    native,
    preset_model,
    sequence,
    shaped_model,
    tokens,
    true_logits,
)

from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.native.decoder import NativeDecoder
from llmserve.engines.batching.compute.native.structure import read_structure

ODD_SHAPES: dict[str, dict[str, Any]] = {
    "nine heads on three": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "initializer_range": 0.04,
    },
    "one kv head for twenty": {
        "hidden_size": 320,
        "intermediate_size": 208,
        "num_attention_heads": 20,
        "num_key_value_heads": 1,
        "head_dim": 32,
    },
    "wide heads, no groups": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "head_dim": 128,
    },
    "heads of 48": {
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 48,
    },
    "biases everywhere": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "attention_bias": True,
        "mlp_bias": True,
    },
    "llama3 rope": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "yarn rope": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 512,
        },
    },
}


def shape(name: str) -> Any:
    model = shaped_model("llama", **ODD_SHAPES[name])
    # Made as zeros, biases would prove nothing.
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            parameter.data.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return model


def prefill_then_decode(
    decoder: NativeDecoder, cache: KVCache, ids: list[int], split: int
) -> torch.Tensor:
    """Logits of the tokens from `split - 1` on, the blocks lying in a mixed order."""
    blocks = torch.randperm(cache.num_blocks, generator=torch.Generator().manual_seed(3)).tolist()
    row = sequence(ids, blocks[: -(-len(ids) // cache.block_size)])
    logits = [decoder(batch(cache, (row, 0, split)), cache)]
    logits += [decoder(batch(cache, (row, i, i + 1)), cache) for i in range(split, len(ids))]
    return torch.cat(logits)


def check_steps(model: Any, block_size: int, path: str) -> None:
    ids = tokens(model, 90)
    expected = true_logits(model, ids)
    decoder = native(model, path=path)
    actual = prefill_then_decode(decoder, cache_for(model, block_size), ids, 70)
    assert error(actual, expected[69:]) <= 1.1 * bfloat16_error(model, ids, expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("block_size", [16, 5])
@pytest.mark.parametrize(
    "preset", ["tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-qwen3", "tiny-granite"]
)
def test_prefill_and_decode_say_what_transformers_says(
    preset: str, block_size: int, path: str
) -> None:
    check_steps(preset_model(preset), block_size, path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ODD_SHAPES)
def test_odd_shapes_say_what_transformers_says(name: str, path: str) -> None:
    check_steps(shape(name), 32, path)


@pytest.mark.parametrize("path", PATHS)
def test_layers_may_have_windows_or_no_rotation_of_their_own(path: str) -> None:
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    check_steps(shaped_model("qwen2", **sizes, max_window_layers=0), 16, path)
    check_steps(shaped_model("qwen3", **sizes, head_dim=32), 16, path)
    smollm3 = shaped_model("smollm3", **sizes, no_rope_layers=[1, 0], pad_token_id=0)
    check_steps(smollm3, 16, path)


@pytest.mark.parametrize("path", PATHS)
def test_decode_rows_and_prefill_chunks_share_a_step(path: str) -> None:
    model = shape("nine heads on three")
    decoder, cache = native(model, path=path), cache_for(model)
    plan = [(1, 2), (40, 41), (95, 96), (0, 3), (0, 50), (33, 64), (64, 130)]
    rows = []
    for number, (_, end) in enumerate(plan):
        first = sum(-(-other // 16) for _, other in plan[:number])
        count = -(-end // 16)
        # Downwards, so that no block is next to the one before it.
        rows.append(sequence(tokens(model, end, number), range(first + count - 1, first - 1, -1)))
    before = [(row, 0, start) for row, (start, _) in zip(rows, plan, strict=True) if start]
    decoder(batch(cache, *sorted(before, key=lambda part: part[2] > 1)), cache)
    step = [(row, *part) for row, part in zip(rows, plan, strict=True)]
    actual = decoder(batch(cache, *step), cache)
    expected = torch.stack([true_logits(model, row.token_ids)[-1] for row in rows])
    allowed = bfloat16_error(model, rows[-1].token_ids, true_logits(model, rows[-1].token_ids))
    for got, wanted in zip(actual, expected, strict=True):
        assert error(got, wanted) <= 1.5 * allowed


@pytest.mark.parametrize("path", PATHS)
def test_chunked_prefill_says_what_whole_prefill_says(path: str) -> None:
    model = preset_model("tiny-qwen3")
    decoder, cache = native(model, path=path), cache_for(model)
    ids = tokens(model, 300)
    whole, chunked = sequence(ids, range(19)), sequence(ids, range(40, 59))
    expected = decoder(batch(cache, (whole, 0, 300)), cache)
    for start, end in ((0, 1), (1, 18), (18, 150), (150, 299), (299, 300)):
        actual = decoder(batch(cache, (chunked, start, end)), cache)
    # Chunks only change how many rows a product has, and with it the order of some sums.
    assert error(actual, expected) < 0.01
    kept = [torch.stack([keys[:18], keys[40:58]]).float() for keys in cache.keys]
    assert all(torch.allclose(*pair, atol=0.1, rtol=0.05) for pair in kept)


def test_rows_share_blocks_of_a_common_prefix() -> None:
    model = preset_model("tiny-llama")
    decoder, cache = native(model, path=PLAIN), cache_for(model)
    prefix, one, two = tokens(model, 48, 0), tokens(model, 9, 1), tokens(model, 20, 2)
    first = sequence(prefix + one, [7, 3, 5, 11])
    second = sequence(prefix + two, [7, 3, 5, 2, 9])
    decoder(batch(cache, (first, 0, 48)), cache)
    actual = decoder(batch(cache, (first, 48, 57), (second, 48, 68)), cache)
    for got, row in zip(actual, (first, second), strict=True):
        expected = true_logits(model, row.token_ids)
        assert error(got, expected[-1]) <= 1.5 * bfloat16_error(model, row.token_ids, expected)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_behind_a_window_is_read(path: str) -> None:
    model = preset_model("tiny-mistral")
    decoder, cache = native(model, path=path), cache_for(model)
    row = sequence(tokens(model, 81), range(6))
    decoder(batch(cache, (row, 0, 80)), cache)
    expected = decoder(batch(cache, (row, 80, 81)), cache)
    for memory in (*cache.keys, *cache.values):
        memory[:4] = 1e4  # tokens 0 to 63; the window of 16 begins at 65
    assert torch.equal(decoder(batch(cache, (row, 80, 81)), cache), expected)


@pytest.mark.parametrize("path", PATHS)
def test_thread_counts_change_nothing(path: str) -> None:
    model = shape("nine heads on three")
    decoder, cache = native(model, path=path), cache_for(model)
    one, two = sequence(tokens(model, 100), range(7)), sequence(tokens(model, 40), range(7, 10))
    decoder(batch(cache, (two, 0, 39)), cache)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(decoder(batch(cache, (two, 39, 40), (one, 0, 100)), cache))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("preset", ["tiny-llama", "tiny-mistral"])  # without and with a window
def test_long_rows_are_shared_out_between_threads(preset: str, path: str) -> None:
    model = preset_model(preset)
    decoder, cache = native(model, path=path), cache_for(model)
    long, short = sequence(tokens(model, 901), range(57)), sequence(tokens(model, 31), [60, 59])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        decoder(batch(cache, (long, 0, 900), (short, 0, 30)), cache)
        step = batch(cache, (long, 900, 901), (short, 30, 31))
        expected = decoder(step, cache)
        torch.set_num_threads(4)
        assert error(decoder(step, cache), expected) < 0.01
    finally:
        torch.set_num_threads(before)


def test_amx_says_what_avx512_says() -> None:
    model = shape("nine heads on three")
    ids = tokens(model, 120)
    one, other = (
        prefill_then_decode(native(model, path=path), cache_for(model), ids, 100)
        for path in (PLAIN, TILES)
    )
    assert error(one, other) < 0.01


def test_contexts_outgrow_the_first_table_of_angles() -> None:
    model = preset_model("tiny-llama")
    decoder, cache = native(model, path=PLAIN), cache_for(model)
    ids = tokens(model, 1200)
    row = sequence(ids, range(75))
    decoder(batch(cache, (row, 0, 1000)), cache)
    actual = decoder(batch(cache, (row, 1000, 1200)), cache)
    expected = true_logits(model, ids)
    assert error(actual[0], expected[-1]) <= 1.5 * bfloat16_error(model, ids, expected)


@pytest.mark.parametrize("preset", ["tiny-llama", "tiny-qwen3"])  # qwen3's head is its token table
def test_originals_are_gone_once_packed(preset: str) -> None:
    model = preset_model(preset)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    decoder = NativeDecoder(kernels(), model, read_structure(model))
    left = {id(parameter) for parameter in model.parameters() if parameter.numel()}
    held = [matrix for matrix in matrices if id(matrix) in left]
    assert held == []
    cache = cache_for(model)
    assert decoder(batch(cache, (sequence([1, 2], [0]), 0, 2)), cache).isfinite().all()


def test_a_step_without_samples_fills_the_cache_and_has_no_logits() -> None:
    model = preset_model("tiny-llama")
    decoder, cache = native(model, path=PLAIN), cache_for(model)
    ids = tokens(model, 30)
    row = sequence(ids, range(2))
    whole = batch(cache, (row, 0, 29))
    object.__setattr__(whole, "sampled", whole.sampled[:0])
    assert decoder(whole, cache).shape == (0, model.config.vocab_size)
    expected = true_logits(model, ids)
    actual = decoder(batch(cache, (row, 29, 30)), cache)
    assert error(actual[0], expected[-1]) <= 1.5 * bfloat16_error(model, ids, expected)


@pytest.mark.parametrize(
    ("ids", "blocks", "message"),
    [([1, 100_000], [0], "tokens"), ([1, -1], [0], "tokens"), ([1, 2], [NUM_BLOCKS], "slots")],
)
def test_indices_outside_of_their_tables_are_refused(
    ids: list[int], blocks: list[int], message: str
) -> None:
    model = preset_model("tiny-llama")
    decoder, cache = native(model, path=PLAIN), cache_for(model)
    with pytest.raises(ValueError, match=message):
        decoder(batch(cache, (sequence(ids, blocks), 0, 2)), cache)
    assert cache.keys[0].isnan().all()


def test_a_cache_of_another_shape_is_refused() -> None:
    model = preset_model("tiny-llama")
    decoder = native(model, path=PLAIN)
    cache = cache_for(model)
    cache.values[1] = cache.values[1].float()
    with pytest.raises(ValueError, match="does not fit"):
        decoder(batch(cache, (sequence([1, 2], [0]), 0, 2)), cache)
