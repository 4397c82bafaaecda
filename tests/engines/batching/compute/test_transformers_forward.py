"""A model of transformers on our cache: the name of its attention, and what it gives back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from paged import paged_batch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmserve.engines.batching.compute.attention import TorchAttention
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward


def make_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def test_models_side_by_side_have_names_of_their_own() -> None:
    first, second = (TransformersForward(make_model(), TorchAttention()) for _ in range(2))
    assert first._name != second._name
    first.close()
    third = TransformersForward(make_model(), TorchAttention())
    assert third._name == first._name
    first.close()  # again: the third keeps its own
    assert third._name in ALL_ATTENTION_FUNCTIONS
    third.close()
    second.close()


def computed(model: LlamaForCausalLM) -> torch.Tensor:
    """The logits of two prompts' last tokens."""
    forward = TransformersForward(model, TorchAttention())
    cache = KVCache(
        [LayerShape(2, 16)],
        num_blocks=8,
        block_size=4,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    logits = forward(paged_batch([(5, 5), (3, 3)], block_size=4, num_blocks=8), cache)
    forward.close()
    return logits


@torch.inference_mode()
def test_a_model_may_give_the_logits_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    expected, plain = computed(model), model.forward

    def deaf(*args: Any, **kwargs: Any) -> SimpleNamespace:
        kwargs.pop("logits_to_keep", None)
        return SimpleNamespace(logits=plain(*args, **kwargs).logits)

    monkeypatch.setattr(model, "forward", deaf)
    torch.testing.assert_close(computed(model), expected)


@torch.inference_mode()
def test_logits_that_a_model_cuts_out_of_more_lie_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    plain = model.forward

    def padded(*args: Any, **kwargs: Any) -> SimpleNamespace:
        logits = plain(*args, **kwargs).logits
        return SimpleNamespace(logits=torch.cat((logits, logits), -1)[..., :64])

    monkeypatch.setattr(model, "forward", padded)
    logits = computed(model)
    assert logits.shape == (2, 64)
    assert logits.is_contiguous()
