"""The native decoder with adapters, against transformers' code with the adapter merged into the
weights."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from native_models import (
    PATHS,
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

from llmserve.engines.adapters.adapter import Adapter, LowRank
from llmserve.engines.adapters.hooks import linear_layers
from llmserve.engines.adapters.segment import Segment
from llmserve.engines.batching.compute.native.decoder import NativeDecoder

pytestmark = pytest.mark.slow

SHAPES: dict[str, dict[str, Any]] = {
    "groups": {
        "hidden_size": 96,
        "intermediate_size": 208,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    "wide": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "initializer_range": 0.04,
    },
}


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest) -> Any:
    return shaped_model("llama", **SHAPES[request.param])


def adapter(model: Any, rank: int, endings: tuple[str, ...], seed: int) -> Adapter:
    source = torch.Generator().manual_seed(seed)
    pairs = {
        name: LowRank(
            torch.randn(rank, shape.in_features, generator=source) / shape.in_features**0.5,
            torch.randn(shape.out_features, rank, generator=source) / rank**0.5,
        )
        for name, shape in linear_layers(model).items()
        if name.endswith(endings)
    }
    return Adapter("", pairs)


def merged(model: Any, adapter: Adapter) -> Any:
    other = copy.deepcopy(model).float()
    with torch.no_grad():
        for name, pair in adapter.pairs.items():
            up, down = pair.up.bfloat16().float(), pair.down.bfloat16().float()
            other.get_submodule(name).weight += up @ down
    return other


def attach(decoder: NativeDecoder, adapters: dict[int, Adapter]) -> None:
    for adapter_id, each in adapters.items():
        decoder.adapters.attach(adapter_id, decoder.adapters.prepare(each))


@pytest.fixture(scope="module")
def adapters(model: Any) -> dict[int, Adapter]:
    return {
        1: adapter(model, 5, ("q_proj", "v_proj"), 1),
        2: adapter(model, 16, ("o_proj", "k_proj", "up_proj", "down_proj"), 2),
        3: adapter(model, 40, ("_proj",), 3),
        4: adapter(model, 1, ("layers.1.mlp.gate_proj",), 4),
    }


@pytest.mark.parametrize("path", PATHS)
def test_each_row_has_its_own_adapter(model: Any, adapters: dict[int, Adapter], path: str) -> None:
    decoder = native(model, path=path)
    attach(decoder, adapters)
    cache = cache_for(model)
    numbers = random.Random(5)
    wanted = [0, 0, 1, 2, 3, 3, 4, 2, 3, 0]  # of decode rows, then of prompts
    lengths = [7, 20, 9, 30, 17, 5, 3, 80, 33, 18]
    rows = []
    for index, (which, length) in enumerate(zip(wanted, lengths, strict=True)):
        blocks = range(index * 6, index * 6 + 6)
        row = sequence(tokens(model, length, seed=numbers.randrange(1000)), blocks)
        row.adapter_id = which
        rows.append(row)
    # What decode rows have in the cache comes from their own adapters, too.
    decoder(batch(cache, *((row, 0, row.num_tokens - 1) for row in rows[:7])), cache)
    parts = [
        (row, row.num_tokens - 1 if i < 7 else 0, row.num_tokens) for i, row in enumerate(rows)
    ]
    step = batch(cache, *parts)
    assert [segment.adapter_id for segment in step.segments] == [1, 2, 3, 4, 2, 3]
    logits = decoder(step, cache)
    for index, row in enumerate(rows):
        which = adapters.get(row.adapter_id)
        changed = model if which is None else merged(model, which)
        expected = true_logits(changed, row.token_ids)[-1:]
        allowed = 1.5 * bfloat16_error(model, row.token_ids, true_logits(model, row.token_ids))
        assert error(logits[index : index + 1], expected) < max(allowed, 0.02)
        if which is not None and len(which.pairs) > 1:
            assert error(true_logits(model, row.token_ids)[-1:], expected) > 0.05


def test_what_is_detached_is_gone_and_others_stay(model: Any, adapters: dict[int, Adapter]) -> None:
    decoder = native(model)
    cache = cache_for(model)
    row = sequence(tokens(model, 12), range(6))
    plain = decoder(batch(cache, (row, 0, 12)), cache)
    attach(decoder, adapters)
    row.adapter_id = 3
    changed = decoder(batch(cache, (row, 0, 12)), cache)
    decoder.adapters.detach(2)
    decoder.adapters.detach(2)
    assert torch.equal(decoder(batch(cache, (row, 0, 12)), cache), changed)
    row.adapter_id = 0
    assert torch.equal(decoder(batch(cache, (row, 0, 12)), cache), plain)


@pytest.mark.parametrize("segments", [((0, 13),), ((5, 4),), ((0, 5), (4, 6)), ((-1, 3),)], ids=str)
def test_segments_outside_of_the_step_are_refused(
    model: Any, adapters: dict[int, Adapter], segments: tuple[tuple[int, int], ...]
) -> None:
    decoder = native(model)
    attach(decoder, adapters)
    cache = cache_for(model)
    step = batch(cache, (sequence(tokens(model, 12), range(6)), 0, 12))
    object.__setattr__(step, "segments", tuple(Segment(1, *each) for each in segments))
    with pytest.raises(ValueError, match="segments"):
        decoder(step, cache)
