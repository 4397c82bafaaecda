"""Decode of every family as a GPU would see it, on the meta device, where nothing is computed: that
it can be recorded in a CUDA graph, and how many kernels it launches."""

from __future__ import annotations

import pytest
import torch
from causal_families.launches import Launches
from random_models.presets import PRESETS, find_preset
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.decode_buffers import Bucket, DecodeBuffers
from llmserve.engines.batching.compute.cuda.prompt_buffers import PromptBuffers, prompt_buckets
from llmserve.engines.batching.compute.cuda.syncs import RefuseSyncs
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward

META = torch.device("meta")
ROWS = 4
# Kernels of a layer with transformers 5.23, cache write and attention counted as one each. More is
# a step back for decode with few rows, which waits for launches; fewer may be written down here.
LAUNCHES = {
    "llama": 39, "mistral": 39, "qwen2": 39, "qwen3": 55, "gemma2": 63, "gemma3": 83, "phi3": 40,
    "gpt2": 20, "gpt-neox": 25, "olmo2": 57, "granite": 41, "starcoder2": 25, "cohere": 39,
    "stablelm": 28, "mixtral": 57, "qwen3-moe": 73, "gpt-oss": 66,
}  # fmt: skip


class NoAttention:
    """Counts as one launch."""

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        return query.clone(memory_format=torch.contiguous_format)


class NoCache(KVCache):
    """A write counts as one launch."""

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        slots + 1


def run(family: str, layers: int, mode: TorchDispatchMode, batch: Batch) -> None:
    preset = find_preset(f"tiny-{family}")
    config = preset.config()
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = (config.layer_types * layers)[:layers]
    with META:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    forward = TransformersForward(model, NoAttention())
    cache = NoCache(
        [LayerShape(1, 1)] * layers, num_blocks=1, block_size=16, dtype=torch.bfloat16, device=META
    )
    try:
        with torch.inference_mode(), mode:
            logits = forward(batch, cache)
    finally:
        forward.close()
    assert logits.shape == (len(batch.sampled), config.vocab_size)


def decode(family: str, layers: int, mode: TorchDispatchMode) -> None:
    bucket = Bucket(ROWS, 32)
    run(family, layers, mode, DecodeBuffers([bucket], 2, META).view(bucket))


def test_every_family_is_here() -> None:
    """But those with recurrent states, of which `test_state_graphs` sees more."""
    tiny = {name for name, preset in PRESETS.items() if preset.is_tiny}
    assert tiny == {f"tiny-{family}" for family in LAUNCHES} | {"tiny-qwen3-next", "tiny-mamba2"}


@pytest.mark.parametrize("family", LAUNCHES)
def test_decode_never_waits_for_the_device(family: str) -> None:
    decode(family, 2, RefuseSyncs())


@pytest.mark.parametrize("family", LAUNCHES)
def test_nor_does_a_step_with_prompts(family: str) -> None:
    [bucket] = prompt_buckets(ROWS, 32, 64)
    run(family, 2, RefuseSyncs(), PromptBuffers([bucket], 2, META).view(bucket))


@pytest.mark.parametrize(("family", "budget"), LAUNCHES.items())
def test_a_layer_launches_no_more_kernels_than_it_did(family: str, budget: int) -> None:
    few, many = Launches(), Launches()
    decode(family, 2, few)
    decode(family, 4, many)
    assert (many.count - few.count) / 2 <= budget
