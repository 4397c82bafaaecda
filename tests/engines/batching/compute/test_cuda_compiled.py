"""Compiled decoder layers, built here by a backend that leaves the code as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from paged import paged_batch
from transformers import LlamaConfig, LlamaForCausalLM

from llmserve.engines.batching.compute.attention import TorchAttention
from llmserve.engines.batching.compute.cuda.compiled import compiled
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward

LAYERS = 3
FIRST = [[(5, 5), (3, 3)], [(9, 1), (6, 1)]]  # steps of rows of (context, new tokens)
LATER = [[(7, 1)], [(3, 1), (4, 1), (2, 1), (6, 6)]]


@pytest.fixture(autouse=True)
def _nothing_stays_compiled() -> Iterator[None]:
    yield
    torch.compiler.reset()


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


@torch.inference_mode()
def run(forward: TransformersForward, steps: list[list[tuple[int, int]]]) -> list[torch.Tensor]:
    cache = KVCache(
        [LayerShape(kv_heads=2, head_dim=16)] * LAYERS,
        num_blocks=16,
        block_size=4,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    return [forward(paged_batch(rows, block_size=4, num_blocks=16), cache) for rows in steps]


def test_many_models_one_after_another_stay_compiled() -> None:
    """Each with the same name for its attention, so that the code of the first does for all; those
    side by side are within the limit that is set."""
    built: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        built.append(graph)
        return graph.forward

    counts = []
    for _ in range(12):
        model = make_model()
        forward = TransformersForward(model, TorchAttention())
        compiled(model, keep)
        run(forward, FIRST)
        forward.close()
        forward.close()
        counts.append(len(built))
    assert counts[-1] == counts[1]


def test_compiled_layers_give_what_the_model_gives_and_share_their_code() -> None:
    built: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        built.append(graph)
        return graph.forward

    plain = TransformersForward(make_model(), TorchAttention())
    expected = [run(plain, FIRST), run(plain, LATER)]
    plain.close()
    model = make_model()
    forward = TransformersForward(model, TorchAttention())
    try:
        compiled(model, backend=keep)
        actual = [run(forward, FIRST)]
        # What comes before attention, and what after: neither once for each layer nor each step.
        many = len(built)
        assert 0 < many < 2 * LAYERS
        actual.append(run(forward, LATER))
        assert len(built) == 2 * many, "once more for one token alone, and never again"
    finally:
        forward.close()
    torch.testing.assert_close(actual, expected)
