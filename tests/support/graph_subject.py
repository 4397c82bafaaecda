"""A tiny model on its paged cache, for tests of steps that are recorded and replayed. (Not a
test.)"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from cuda_doubles import SkippingCache
from transformers import LlamaConfig, LlamaForCausalLM

from llmserve.engines.batching.compute.attention import Attention, TorchAttention
from llmserve.engines.batching.compute.cuda.graphs import GraphedForward, GraphRecorder
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.sequence import Sequence

CPU = torch.device("cpu")
BLOCK_SIZE = 4
MAX_ROWS = 10
MAX_CONTEXT = 32
SHAPE = LayerShape(kv_heads=2, head_dim=16)


def make_model(device: torch.device = CPU) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval().to(device)


def make_attention(device: torch.device) -> Attention:
    if device == CPU:
        return TorchAttention()
    from llmserve.engines.batching.compute.cuda.attention import CudaAttention

    return CudaAttention(device)


@contextmanager
def make_forward(device: torch.device = CPU) -> Iterator[TransformersForward]:
    forward = TransformersForward(make_model(device), make_attention(device))
    try:
        yield forward
    finally:
        forward.close()


def make_cache(device: torch.device = CPU) -> KVCache:
    kind: type[KVCache] = SkippingCache
    if device != CPU:
        from llmserve.engines.batching.compute.cuda.kv_write import CudaKVCache

        kind = CudaKVCache
    return kind(
        [SHAPE, SHAPE], num_blocks=128, block_size=BLOCK_SIZE, dtype=torch.float32, device=device
    )


def make_graphed(
    forward: Forward, cache: KVCache, recorder: GraphRecorder, max_prompt_tokens: int = 0
) -> GraphedForward:
    return GraphedForward(
        forward,
        cache,
        recorder,
        max_rows=MAX_ROWS,
        max_context=MAX_CONTEXT,
        max_prompt_tokens=max_prompt_tokens,
        device=CPU,
    )


def make_sequences(count: int) -> list[Sequence]:
    """Prompts of 1, 4, 7, ... tokens, each with blocks of its own for all it may become."""
    width = MAX_CONTEXT // BLOCK_SIZE
    return [
        Sequence(
            token_ids=[(7 * row + token) % 64 for token in range(1 + 3 * row % 20)],
            blocks=list(range(1 + row * width, 1 + (row + 1) * width)),
        )
        for row in range(count)
    ]
