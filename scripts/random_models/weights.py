"""Random weights for a preset, in memory or streamed to shards.

Every module is seeded by its own name, so both ways give the same numbers, in any order.
"""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

SHARD_BYTES = 2 << 30

_FLAT_NOISE = 0.1  # spread given to biases (all 0) and norms (all 1), so that they matter


def meta_model(config: PretrainedConfig) -> PreTrainedModel:
    """Build the model without memory: every tensor has a shape and no storage."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def count_parameters(model: nn.Module) -> int:
    """Count parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def random_model(
    config: PretrainedConfig, seed: int, embedding_scale: float = 1.0
) -> PreTrainedModel:
    """Build the whole model in memory, in float32, in the layout that transformers runs."""
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, module in _owners(model):
        _initialise(model, name, module, seed)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(embedding_scale)
    return model


def write_shards(
    model: PreTrainedModel,
    out: Path,
    seed: int,
    dtype: torch.dtype,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Fill a meta model module by module and write it; one shard at most is in memory.

    Names are those of the running model, so it fits families whose checkpoints use the same ones
    (all dense Llama-likes). The model is empty again afterwards.
    """
    plan = _plan(model, dtype, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, owners in enumerate(plan, start=1):
        file = "model.safetensors"
        if len(plan) > 1:
            file = f"model-{number:05d}-of-{len(plan):05d}.safetensors"
        shard: dict[str, torch.Tensor] = {}
        for name, module in owners:
            _materialise(module)
            _initialise(model, name, module, seed)
            shard |= {f"{name}.{key}": p.data.to(dtype) for key, p in _own(module)}
            module.to(device="meta")
        save_file(shard, out / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    if len(plan) > 1:
        total = count_parameters(model) * dtype.itemsize
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        path = out / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _owners(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module that holds parameters itself; tied copies belong to their source."""
    tied = model.all_tied_weights_keys
    for name, module in model.named_modules():
        keys = [f"{name}.{key}" for key, _ in _own(module)]
        if keys and not all(key in tied for key in keys):
            yield name, module


def _own(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


def _plan(
    model: PreTrainedModel, dtype: torch.dtype, shard_bytes: int
) -> list[list[tuple[str, nn.Module]]]:
    """Group modules, in order, into shards of at most `shard_bytes` (or of one module)."""
    shards: list[list[tuple[str, nn.Module]]] = [[]]
    room = shard_bytes
    for name, module in _owners(model):
        size = sum(parameter.numel() for _, parameter in _own(module)) * dtype.itemsize
        if size > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append((name, module))
        room -= size
    return shards


def _materialise(module: nn.Module) -> None:
    for key, parameter in _own(module):
        empty = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
        setattr(module, key, nn.Parameter(empty, requires_grad=False))


@torch.no_grad()
def _initialise(model: PreTrainedModel, name: str, module: nn.Module, seed: int) -> None:
    """Run the family's own initialisation of one module, then unflatten constant tensors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
        model._init_weights(module)
        for _, parameter in _own(module):
            if parameter.min() == parameter.max():
                parameter.add_(torch.randn_like(parameter), alpha=_FLAT_NOISE)
