"""The same tokens as plain `model.generate`, greedy in float32, for models whose layers do not just
attend to keys and values of one width: latent attention (its head sizes in their real ratios),
shared layers, chunks, selections, and families that view what attention gives in other shapes."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from engines.batching.compute.test_families_on_meta import NoCache
from engines.batching.step_machine import BLOCK, Machine, generated, join_and_leave
from engines.batching.test_equality import computation_of
from native_models import (
    batch,
    bfloat16_error,
    error,
    kernels,
    sequence,
    tokens,
    true_logits,
)
from random_loaded import random_loaded
from transformers import AutoConfig, AutoModelForCausalLM

from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.cuda.decode_buffers import Bucket, DecodeBuffers
from llmserve.engines.batching.compute.cuda.syncs import RefuseSyncs
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.on_cpu import _forward
from llmserve.engines.batching.compute.support import Unsupported, cache_shape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.weights.loading import LoadedModel

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CONTEXT = 128
LENGTHS = (1, 3, 8, 17, 40, 70)

_SHAPE: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.25,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_HEADS: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 16}
_MOE: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
# An eighth of DeepSeek's.
_MLA: dict[str, Any] = {
    "q_lora_rank": 48,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}
# An eighth of GLM's.
_WIDE_VALUES = _MLA | {"qk_nope_head_dim": 24, "v_head_dim": 32}
_DSA: dict[str, Any] = {"index_topk": CONTEXT, "index_n_heads": 2, "index_head_dim": 16}
_GEMMA: dict[str, Any] = _HEADS | {
    "num_hidden_layers": 6,
    "num_kv_shared_layers": 3,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "sliding_window": 16,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 128,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "deepseek_v2": _MLA | _MOE | {"topk_method": "greedy", "rope_interleave": True},
    "deepseek_v3": _MLA | _MOE,
    "deepseek_v32": _MLA | _MOE | _DSA,
    "glm4_moe_lite": _WIDE_VALUES | _MOE,
    "glm_moe_dsa": _WIDE_VALUES | _MOE | _DSA,
    "minicpm3": _MLA,
    "longcat_flash": _MLA
    | {"num_layers": 2, "head_dim": 8, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 32}
    | {"n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 2},
    "youtu": _MLA,
    "mimo_v2_flash": _MOE
    | {"num_key_value_heads": 2, "head_dim": 24, "v_head_dim": 16, "sliding_window": 16}
    | {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
    "gemma3n_text": _GEMMA | {"laurel_rank": 8, "activation_sparsity_pattern": [0.0] * 6},
    "gemma4_text": _GEMMA | {"global_head_dim": 32},
    "llama4_text": _HEADS
    | _MOE
    | {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0], "moe_layers": [1, 3]}
    | {"attention_chunk_size": 16, "floor_scale": 8, "intermediate_size_mlp": 64},
    "afmoe": _HEADS
    | _MOE
    | {"num_dense_layers": 1, "sliding_window": 16, "global_attn_every_n_layers": 2},
    "jetmoe": {"num_key_value_heads": 2, "kv_channels": 16, "num_local_experts": 4}
    | {"num_experts_per_tok": 2},
}


def tiny(family: str, max_context: int = CONTEXT) -> LoadedModel:
    """A random float32 model of a family."""
    return random_loaded(family, max_context, **_SHAPE | FAMILIES[family])


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny(request.param)


@pytest.fixture(scope="module")
def shape(loaded: LoadedModel) -> CacheShape:
    return cache_shape(loaded)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    numbers = random.Random(7)
    own = [[numbers.randrange(4, 128) for _ in range(length)] for length in LENGTHS]
    return [*own, [*own[5][:40], 7, 8]]  # two with a beginning in common


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel, prompts: list[list[int]]) -> list[list[int]]:
    return [generated(loaded, prompt) for prompt in prompts]


@pytest.fixture
def computation(
    loaded: LoadedModel, shape: CacheShape, expected: list[list[int]]
) -> Iterator[ModelComputation]:
    computation = computation_of(loaded, shape, 120)
    assert computation.cache.num_blocks == 120
    yield computation
    computation.close()


def test_shapes_are_the_layers_own(loaded: LoadedModel, shape: CacheShape) -> None:
    layers = shape.layers
    config = loaded.model.config
    if config.model_type.startswith("gemma"):
        wide = 32 if config.model_type == "gemma4_text" else 16
        own = LayerShape(2, 16), LayerShape(2, 16), LayerShape(2, wide)
        shared = tuple(LayerShape(2, w, shared_with=n) for w, n in ((16, 1), (16, 1), (wide, 2)))
        assert layers == own + shared
    elif hasattr(config, "kv_lora_rank"):
        wide, value_dim = config.qk_nope_head_dim + 8, config.v_head_dim
        expanded = LayerShape(4, wide, None if wide == value_dim else value_dim)
        assert set(layers) == {LayerShape(1, 64 + 8, 64, expanded=expanded)}
    assert all(layer.shared_with is None for layer in layers[:3])


@pytest.mark.parametrize(
    "family",
    ["deepseek_v2", "glm4_moe_lite", "youtu", "mimo_v2_flash", "gemma4_text", "llama4_text"],
)
@torch.inference_mode()
def test_in_bfloat16_they_differ_no_more_than_transformers_own_code(family: str) -> None:
    loaded = tiny(family)
    loaded.model.bfloat16()
    ids = tokens(loaded.model, 60)
    expected = true_logits(loaded.model, ids)
    allowed = bfloat16_error(loaded.model, ids, expected)
    cache = KVCache(
        cache_shape(loaded).layers, num_blocks=16, block_size=16, dtype=torch.bfloat16, device=CPU
    )
    forward, _, description, close = _forward(loaded.model, kernels(), cache_shape(loaded))
    try:
        assert description.startswith("transformers' code, attention and")
        row = sequence(ids, [9, 3, 11, 6])
        logits = [forward(batch(cache, (row, 0, 45)), cache)]
        logits += [forward(batch(cache, (row, i, i + 1)), cache) for i in range(45, 60)]
    finally:
        close()
    errors = [error(*pair) for pair in zip(torch.cat(logits), expected[44:], strict=True)]
    # Not of each: where two experts are nearly as good, rounding chooses another one.
    assert statistics.median(errors) <= 1.2 * allowed


class Widths:
    """Computes nothing, in the shapes that attention has."""

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        if variant.latent is None:
            return query.new_empty((*query.shape[:2], cache.values[layer].shape[-1]))
        mixed = variant.latent.absorb(query)[..., : variant.latent.rank]
        return variant.latent.project(mixed)


@pytest.mark.parametrize("family", ["deepseek_v32", "gemma3n_text", "llama4_text"])
def test_decode_never_waits_for_a_device(family: str) -> None:
    layers, meta, bucket = cache_shape(tiny(family)).layers, torch.device("meta"), Bucket(4, 32)
    config = AutoConfig.for_model(family, **_SHAPE | FAMILIES[family])
    with meta:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    forward = TransformersForward(model, Widths())
    cache = NoCache(layers, num_blocks=1, block_size=16, dtype=torch.bfloat16, device=meta)
    step = DecodeBuffers([bucket], 2, meta).view(bucket)
    try:
        with torch.inference_mode():
            forward(step, cache)  # the matrices of latents are made once
            with RefuseSyncs():
                assert forward(step, cache).shape == (4, 128)
    finally:
        forward.close()


@pytest.mark.parametrize("family", ["deepseek_v32", "glm_moe_dsa"])
def test_a_selection_of_fewer_tokens_than_the_context_has_is_refused_with_a_remedy(
    family: str,
) -> None:
    with pytest.raises(Unsupported, match=r"128 tokens \(index_topk\).* max_context = 128 "):
        cache_shape(tiny(family, CONTEXT + 1))


def test_indexers_select_again_when_the_engine_is_done_with_them() -> None:
    loaded = tiny("deepseek_v32")
    computation_of(loaded, cache_shape(loaded), 1).close()
    indexer = loaded.model.model.layers[0].self_attn.indexer
    assert indexer.forward.__func__ is type(indexer).forward


def test_in_pieces_joining_and_leaving_with_prefix_hits(
    loaded: LoadedModel,
    computation: ModelComputation,
    prompts: list[list[int]],
    expected: list[list[int]],
) -> None:
    machine = Machine(loaded, computation, budget=24, is_caching=True)
    assert join_and_leave(machine, prompts) == expected
    assert machine.run([machine.add(prompts[6])]) == [expected[6]]
    assert machine.num_cached >= 40 // BLOCK * BLOCK
    machine.scheduler.check()


def test_a_tiny_pool_that_preempts_changes_nothing(
    loaded: LoadedModel, shape: CacheShape, prompts: list[list[int]]
) -> None:
    short = [prompt for prompt in prompts if len(prompt) < 20]
    expected = [generated(loaded, prompt, 24) for prompt in short]
    computation = computation_of(loaded, shape, 9)
    try:
        machine = Machine(loaded, computation, budget=32, is_caching=False)
        assert machine.run([machine.add(prompt) for prompt in short], 24) == expected
        assert machine.scheduler.stats().preemptions > 0
    finally:
        computation.close()
