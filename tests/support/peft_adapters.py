"""Adapters made by PEFT, with random weights, and what PEFT's own models say with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def make_adapter(
    base: Path, folder: Path, *, seed: int = 0, size: float = 0.3, **config: Any
) -> Path:
    """An adapter that changes what the base says; `size` of its numbers."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8} | config))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=source) * size)
    peft.save_pretrained(folder)
    return folder


def peft_model(base: Path, adapter: Path | None) -> Any:
    """In float32; it never ends an answer by itself."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    return model if adapter is None else PeftModel.from_pretrained(model, adapter).eval()


@torch.inference_mode()
def peft_generated(
    base: Path, adapter: Path | None, prompts: Iterable[Sequence[int]], count: int
) -> list[list[int]]:
    """Greedy tokens after each prompt."""
    model, answers = peft_model(base, adapter), []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        whole = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
        )
        answers.append(list(whole[0, len(prompt) :].tolist()))
    return answers


@torch.inference_mode()
def peft_prompt_logprobs(base: Path, adapter: Path | None, prompt: Sequence[int]) -> list[float]:
    """Of the prompt's tokens from the second on."""
    rows = peft_model(base, adapter)(torch.tensor([list(prompt)])).logits[0, :-1].log_softmax(-1)
    chosen: list[float] = rows.gather(-1, torch.tensor(prompt[1:])[:, None])[:, 0].tolist()
    return chosen
