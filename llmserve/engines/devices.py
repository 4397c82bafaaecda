"""Where a model goes: device and dtype from what was asked and what the machine has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.errors import ModelBroken

HEADROOM: Final = 1.2
"""A model wants its weights and about a fifth more for cache and activations."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Either one device, or a device map for accelerate to spread the layers by."""

    device: str | None
    device_map: str | None = None

    def __str__(self) -> str:
        return self.device or f"device_map={self.device_map}"


def place(device: str, weight_bytes: int, free_bytes: Sequence[int] | None = None) -> Placement:
    """Choose a device for weights of this size.

    `auto` takes the GPU with the most free memory, spreads the layers over several GPUs when
    the model does not fit on one, and takes the CPU where there is no GPU. `free_bytes` lists
    the free memory of each GPU; it is measured when not given.

    Raises:
        ModelBroken: the device that was asked for is not there.
    """
    free = _free_bytes() if free_bytes is None else list(free_bytes)
    if device == "cpu" or (device == "auto" and not free):
        return Placement("cpu")
    if device != "auto":
        index = int(device.partition(":")[2] or 0)
        if index >= len(free):
            raise ModelBroken(
                f"device {device} was asked for and this machine has {len(free)} CUDA devices; "
                "set `device` to auto, cpu or one that exists"
            )
        return Placement(f"cuda:{index}")
    best = max(range(len(free)), key=free.__getitem__)
    if len(free) > 1 and weight_bytes * HEADROOM > free[best]:
        return Placement(None, device_map="auto")
    return Placement(f"cuda:{best}")


def num_gpus() -> int:
    """GPUs that this process may use."""
    return torch.cuda.device_count()


def _free_bytes() -> list[int]:
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]
