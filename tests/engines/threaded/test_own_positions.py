"""Position embeddings that change with length, where several generations use them at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from llmserve.engines.threaded.own_positions import own_positions

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 4.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 8,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}


def rotary(parameters: dict[str, Any]) -> LlamaRotaryEmbedding:
    config = LlamaConfig(hidden_size=16, num_attention_heads=2, max_position_embeddings=8)
    config.rope_parameters = parameters
    return LlamaRotaryEmbedding(config)


def angles(module: nn.Module, length: int) -> torch.Tensor:
    cos, _ = module(torch.zeros(1, length, 16), torch.arange(length)[None])
    return cos


@pytest.mark.parametrize("parameters", [LONGROPE, DYNAMIC], ids=["longrope", "dynamic"])
@pytest.mark.parametrize("length", [5, 8, 12, 20])
def test_a_text_has_its_own_positions_after_a_longer_one(
    parameters: dict[str, Any], length: int
) -> None:
    shared = rotary(parameters)
    own_positions(nn.ModuleList([shared]))
    angles(shared, 30)
    assert torch.equal(angles(shared, length), angles(rotary(parameters), length))


def test_a_call_waits_until_another_thread_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, second = threading.Event(), threading.Event()
    order: list[int] = []

    def slow(self: Any, hidden: torch.Tensor, positions: torch.Tensor) -> None:
        order.append(positions.shape[1])
        if len(order) == 1:
            inside.set()
            # The other thread is about to call; were it not kept out, it would be inside soon.
            assert second.wait(10)
            order.append(0)

    monkeypatch.setattr(LlamaRotaryEmbedding, "forward", slow)
    module = rotary(LONGROPE)
    own_positions(nn.ModuleList([module]))

    def call(length: int, begun: threading.Event) -> None:
        begun.set()
        module(torch.zeros(1, length, 16), torch.arange(length)[None])

    first = threading.Thread(target=call, args=(1, threading.Event()))
    first.start()
    assert inside.wait(10)
    other = threading.Thread(target=call, args=(2, second))
    other.start()
    first.join()
    other.join()
    assert order == [1, 0, 2]


def test_positions_that_never_change_are_left_alone() -> None:
    module = rotary({"rope_type": "default", "rope_theta": 1e4})
    own_positions(nn.ModuleList([module]))
    assert "forward" not in vars(module)
