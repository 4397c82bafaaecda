"""Which layers take adapters where steps have rows of several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from torch import nn

from llmserve.engines.adapters.hooks import HookedAdapters
from llmserve.engines.batching.loop_adapters import LoopAdapters


async def at_once(work: Callable[[], None]) -> None:
    await asyncio.sleep(0)
    work()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mlp.experts.0.up", "experts take no adapters"),
        ("attn.kv_b_proj", "what makes keys of latents"),
        ("attn.o_proj", None),
        ("lm_head", "output head"),
    ],
)
def test_layers_that_take_no_adapters_say_why(name: str, reason: str | None) -> None:
    class Model(nn.ModuleDict):
        def get_output_embeddings(self) -> nn.Module:
            return self["lm_head"]

    model = Model({
        "mlp": nn.ModuleDict({"experts": nn.ModuleList([nn.ModuleDict({"up": nn.Linear(2, 2)})])}),
        "attn": nn.ModuleDict({"kv_b_proj": nn.Linear(2, 2), "o_proj": nn.Linear(2, 2)}),
        "lm_head": nn.Linear(2, 2),
    })  # fmt: skip
    host = LoopAdapters(model, HookedAdapters(model, tuple), at_once)
    refusal = host.layers()[name].refusal
    assert refusal is None if reason is None else reason in (refusal or "")
