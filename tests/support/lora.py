"""Adapters in PEFT's layout with random weights, without PEFT."""

from __future__ import annotations

import json
from pathlib import Path

MODULES = ("q_proj", "v_proj")


def make_lora(base: Path, folder: Path, *, seed: int, rank: int = 4, size: float = 0.5) -> Path:
    """One for the base in this folder, large enough to change what it says."""
    # Imported here: it takes seconds, and most need the config alone.
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    source = torch.Generator().manual_seed(seed)
    tensors = {}
    with safe_open(base / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # not a mapping
            module = name.removesuffix(".weight")
            if not module.endswith(MODULES):
                continue
            out_features, in_features = file.get_slice(name).get_shape()
            for part, shape in {"A": (rank, in_features), "B": (out_features, rank)}.items():
                tensor = torch.randn(shape, generator=source) * size
                tensors[f"base_model.model.{module}.lora_{part}.weight"] = tensor
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    write_config(folder, r=rank)
    return folder


def write_config(folder: Path, **fields: object) -> None:
    """What PEFT writes beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "lora_alpha": 8, "target_modules": list(MODULES)}
    (folder / "adapter_config.json").write_text(json.dumps(config | fields))
