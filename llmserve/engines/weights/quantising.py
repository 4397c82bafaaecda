"""Packs a model's weights while they are loaded: who does it on which device, and what is refused.

torchao packs the linear layers, but for the output head, each weight as it is read.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import torch
from transformers import TorchAoConfig

from llmserve.domain import ModelSpec
from llmserve.errors import ModelBroken

ON_CPU: Final = ("int8",)
CAPABILITIES: Final = {"int8": (7, 5), "int4": (8, 0), "fp8": (8, 9)}
"""The least of a GPU that has kernels for it."""
INT4_GROUP: Final = 128
"""Weights with a scale in common."""


def quantising(spec: ModelSpec, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is to be given, to pack to `spec.packs_to`.

    Raises:
        ModelBroken: the device cannot compute with such weights, or torchao is missing.
    """
    kind = spec.packs_to
    assert kind is not None
    refusal = f"model {spec.name!r} cannot be packed to {kind}"
    if device.type == "cpu":
        if kind not in ON_CPU:
            raise ModelBroken(f"{refusal} on a CPU, which computes with {' and '.join(ON_CPU)}")
    else:
        capability = torch.cuda.get_device_capability(device)
        if capability < CAPABILITIES[kind]:
            least, has = (".".join(map(str, pair)) for pair in (CAPABILITIES[kind], capability))
            raise ModelBroken(f"{refusal}: that needs compute capability {least}, not {has}")
    if kind == "int4" and spec.dtype not in ("auto", "bfloat16"):
        raise ModelBroken(f"{refusal} with dtype {spec.dtype}: its kernels compute in bfloat16")
    if find_spec("torchao") is None:
        raise ModelBroken(f"{refusal}: torchao is not installed; pip install 'llmserve[torchao]'")
    told: dict[str, Any] = {"quantization_config": TorchAoConfig(_config(kind))}
    return told | ({"dtype": torch.bfloat16} if kind == "int4" else {})


def told_of_experts(kind: str, config: Any) -> tuple[str, ...]:
    """A warning if most of the model's weights stay as they are."""
    values = config.get_text_config(decoder=True).to_dict()
    counts = (n for key, n in values.items() if "experts" in key and isinstance(n, int))
    if not any(count > 1 for count in counts):
        return ()
    return (f"its experts are not packed to {kind}: they are no linear layers",)


def _config(kind: str) -> Any:
    from torchao import quantization

    if kind == "int8":
        return quantization.Int8WeightOnlyConfig()
    if kind == "int4":
        return quantization.Int4WeightOnlyConfig(
            group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d"
        )
    return quantization.Float8DynamicActivationFloat8WeightConfig(granularity=quantization.PerRow())
