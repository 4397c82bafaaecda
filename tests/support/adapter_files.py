"""Folders of adapters, written number by number, good and bad ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from llmserve.engines.adapters.adapter import LinearShape

LAYERS: Mapping[str, LinearShape] = {
    "model.layers.0.attn.q_proj": LinearShape(8, 6),
    "model.layers.0.attn.v_proj": LinearShape(8, 4),
    "model.layers.1.attn.q_proj": LinearShape(8, 6),
    "model.layers.1.attn.v_proj": LinearShape(8, 4),
    "lm_head": LinearShape(8, 20, "no adapters on the output head"),
}


def write_adapter(
    folder: Path,
    *,
    layers: Mapping[str, LinearShape] = LAYERS,
    modules: tuple[str, ...] = ("q_proj",),
    rank: int = 2,
    number: float | None = None,
    extra: Mapping[str, torch.Tensor] | None = None,
    **config: Any,
) -> Path:
    """With matrices for each layer that ends with one of the modules; all of them `number`, or
    random."""
    folder.mkdir(parents=True, exist_ok=True)
    source = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in layers.items():
        if name.endswith(modules):
            for part, size in (("A", (rank, shape.in_features)), ("B", (shape.out_features, rank))):
                matrix = torch.randn(size, generator=source)
                if number is not None:
                    matrix.fill_(number)
                tensors[f"base_model.model.{name}.lora_{part}.weight"] = matrix
    save_file(tensors | dict(extra or {}), folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": [*modules]}
    (folder / "adapter_config.json").write_text(json.dumps(fields | config))
    return folder
