"""Adapters of random weights, as PEFT would save them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from llmserve.engines.adapters.hooks import linear_layers

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_adapter(base: Path, folder: Path, rank: int, seed: int, size: float = 1 / 64) -> Path:
    """One that changes all linear layers of a model of Llama's kind, by numbers of this size."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    source = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in linear_layers(model).items():
        if name.endswith(MODULES):
            for part, sizes in (
                ("A", (rank, shape.in_features)),
                ("B", (shape.out_features, rank)),
            ):
                numbers = torch.randn(sizes, generator=source) * size
                tensors[f"base_model.model.{name}.lora_{part}.weight"] = numbers
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": [*MODULES]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
