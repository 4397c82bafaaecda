"""Numbers that act by distance, family by family: what is served by batching says what `generate`
says far beyond them, and what is refused is refused for the right number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from random_loaded import random_loaded
from transformers import GenerationConfig

from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.distances import distances
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.compute.support import Unsupported, cache_shape
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.weights.loading import LoadedModel

CONTEXT = 256
BLOCK = 8
PROMPTS = ([*range(3, 73)], [*range(90, 40, -1)])
"""Of 70 and 50 tokens, far beyond every window and chunk here."""
NEW_TOKENS = 24

_SHAPE: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.25,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_MOE: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
_MIXED = ["sliding_attention", "full_attention"] * 2
_WINDOW: dict[str, Any] = {"sliding_window": 16}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 32,
}
_GROUPS = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1}
_LLAMA4: dict[str, Any] = {
    "attention_chunk_size": 32,
    "floor_scale": 16,
    "intermediate_size_mlp": 64,
    "no_rope_layers": [1, 1, 1, 0],
    "moe_layers": [1, 3],
}

SERVED: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": _WINDOW,
    "mixtral": _WINDOW | _MOE,
    "ministral": _WINDOW | {"layer_types": _MIXED},
    "ministral3": {"rope_parameters": _YARN | {"llama_4_scaling_beta": 0.3}},
    "qwen2": _WINDOW | {"use_sliding_window": True, "max_window_layers": 2},
    "qwen3": _WINDOW | {"use_sliding_window": True, "max_window_layers": 1},
    "qwen3_moe": _WINDOW | _MOE | {"use_sliding_window": True},
    "starcoder2": _WINDOW,
    "phi3": _WINDOW | {"original_max_position_embeddings": CONTEXT},
    "gemma2": _WINDOW | {"layer_types": _MIXED},
    "gemma3_text": _WINDOW | {"layer_types": _MIXED},
    "gemma4_text": _WINDOW
    | {"layer_types": _MIXED, "global_head_dim": 32, "hidden_size_per_layer_input": 8}
    | {"vocab_size_per_layer_input": 128},
    "cohere2": _WINDOW | {"layer_types": _MIXED},
    "olmo3": _WINDOW | {"layer_types": _MIXED},
    "exaone4": _WINDOW | {"layer_types": _MIXED},
    "smollm3": _WINDOW | {"use_sliding_window": True, "no_rope_layer_interval": 2},
    "dots1": _WINDOW | _MOE | _GROUPS | {"layer_types": _MIXED},
    "minimax_m2": _MOE,
    "llama4_text": _LLAMA4 | _MOE,
    "gpt_oss": _WINDOW | _MOE | {"layer_types": _MIXED, "rope_parameters": _YARN},
    "modernbert-decoder": {"local_attention": 32, "layer_types": _MIXED},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "moshi": ({"sliding_window": 32, "ffn_dim": 64}, "sliding_window of 32"),
    "qwen2_moe": (
        _MOE
        | {"use_sliding_window": True, "sliding_window": 32}
        | {"shared_expert_intermediate_size": 32},
        "sliding_window of 32",
    ),
    "phimoe": (_MOE | {"sliding_window": 32}, "sliding_window of 32"),
    "phi3": ({"rope_parameters": _LONGROPE, "original_max_position_embeddings": 32}, "over 32"),
    "minimax_m3_vl_text": (
        _MOE
        | {"layer_types": ["minimax_m3_sparse"] * 4, "index_block_size": 16}
        | {"index_topk_blocks": 2, "index_n_heads": 2, "index_head_dim": 16}
        | {"dense_intermediate_size": 64, "shared_intermediate_size": 32},
        "index_",
    ),
}


def tiny(family: str, **settings: Any) -> LoadedModel:
    """A random float32 model of a family."""
    return random_loaded(family, CONTEXT, **_SHAPE | settings)


@torch.inference_mode()
def generated(loaded: LoadedModel, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    config = GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0)
    answer = loaded.model.generate(
        ids, attention_mask=torch.ones_like(ids), generation_config=config
    )
    return list(answer[0, len(prompt) :].tolist())


@torch.inference_mode()
def batched(loaded: LoadedModel, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy tokens of all prompts at once, prefilled in pieces of 13."""
    shape = cache_shape(loaded)
    per_block = shape.bytes_per_token(torch.float32) * BLOCK
    num_blocks = CONTEXT // BLOCK
    wish = CacheOptions(BLOCK, len(prompts), per_block * num_blocks * len(prompts))
    computation = build_computation(loaded, shape, wish)
    rows = [
        Sequence([*prompt], blocks=[*range(n, num_blocks * len(prompts), len(prompts))])
        for n, prompt in enumerate(prompts)
    ]
    try:
        for _ in range(200):
            left = [
                row
                for row, prompt in zip(rows, prompts, strict=True)
                if row.num_tokens < len(prompt) + NEW_TOKENS
            ]
            if not left:
                break
            step(computation, left)
    finally:
        computation.close()
    return [row.token_ids[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]


def step(computation: Any, rows: list[Sequence]) -> None:
    slices = []
    for row in rows:
        length = min(13, row.num_tokens - row.num_computed)
        is_last = row.num_computed + length == row.num_tokens
        slices.append(Slice(row, row.num_computed, length, is_last))
    slices.sort(key=lambda part: part.length > 1)
    batch = computation.prepare(StepPlan(tuple(slices)))
    logits = computation.runner.forward(batch, computation.cache)
    tokens = iter(logits.argmax(-1).tolist())
    for part in slices:
        part.sequence.num_computed = part.end
        if part.is_sampled:
            part.sequence.token_ids.append(next(tokens))


def test_distances_are_found_at_every_depth_and_where_they_matter() -> None:
    values = {
        "sliding_window": 64,
        "max_window_layers": 3,
        "sliding_window_pattern": 4,
        "chunk_size_feed_forward": 0,
        "num_experts": 8,
        "attention_chunk_size": None,
        "window_size": [512, None, 48],
        "keep_window_size": 100,
        "rope_parameters": {"full_attention": {"original_max_position_embeddings": 32}},
        "compress_rates": {"some_attention": 4, "other_attention": 16},
        "per_layer_config": {"1": {"attention_window": 8}},
        "vision_config": {"window_size": 7},
        "floor_scale": 8192,
    }
    config = SimpleNamespace(to_dict=lambda: values)
    assert distances(config, max_context=100) == {
        "sliding_window": 64,
        "window_size": 48,
        "original_max_position_embeddings": 32,
        "compress_rates": 4,
        "attention_window": 8,
        "floor_scale": 8192,
    }


@pytest.mark.parametrize("family", SERVED)
def test_far_beyond_its_distances_a_served_model_says_what_generate_says(family: str) -> None:
    loaded = tiny(family, **SERVED[family])
    assert batched(loaded, PROMPTS) == [generated(loaded, prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("family", REFUSED)
def test_a_distance_that_a_paged_cache_does_not_follow_is_named(family: str) -> None:
    settings, reason = REFUSED[family]
    with pytest.raises(Unsupported, match=reason):
        cache_shape(tiny(family, **settings))
