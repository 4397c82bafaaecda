"""Adapters of models that also see, trained on the whole model, change their text side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from bounded import run
from engines.batching.asked import Asked, engine_of
from peft import LoraConfig, get_peft_model
from tiny_multimodal import multimodal_model

from llmserve.domain import AdapterSpec

pytestmark = [pytest.mark.usefixtures("no_thread_left"), pytest.mark.slow]

TARGETS = r".*language_model.*layers\.[012]\.(self_attn\.(q|v)_proj|mlp\.down_proj)"
PROMPT = list(range(10, 40))
COUNT = 12


@torch.inference_mode()
def generated(model: Any) -> list[int]:
    ids = torch.tensor([PROMPT])
    said = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=COUNT,
        pad_token_id=0,
        eos_token_id=None,
    )
    return list(said[0, len(PROMPT) :].tolist())


@pytest.mark.parametrize("family", ["mistral3", "qwen2_5_vl"])
def test_it_says_what_the_whole_model_says_with_it(
    family: str, tiny_model: Path, tmp_path: Path
) -> None:
    whole = multimodal_model(family, tmp_path / "base", tiny_model)
    plain = generated(whole)
    peft = get_peft_model(whole, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.3)
    adapter = tmp_path / "adapter"
    peft.save_pretrained(adapter)
    changed = generated(peft.eval())
    assert changed != plain

    async def test() -> None:
        async with engine_of(tmp_path / "base") as engine:
            await engine.load_adapter(AdapterSpec("it", path=adapter), adapter)
            asked = [Asked(engine, PROMPT, COUNT, adapter=name) for name in ("it", None)]
            assert await asyncio.gather(*(one.tokens() for one in asked)) == [changed, plain]

    run(test)
