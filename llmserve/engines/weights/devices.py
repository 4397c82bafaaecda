"""Chooses a model's device from what was asked for and what the machine has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.idle_gpus import why_idle
from llmserve.errors import ModelBroken
from llmserve.machine.gpus import installed_gpus

HEADROOM: Final = 1.2
"""A model needs about a fifth more than its weights, for cache and activations."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Either one device, or a device map by which accelerate distributes the layers."""

    device: str | None
    device_map: str | None = None

    def __str__(self) -> str:
        return self.device or f"device_map={self.device_map}"


def place(device: str, weight_bytes: int, free_bytes: Sequence[int] | None = None) -> Placement:
    """Choose a device for weights of this size.

    `auto` takes the GPU with the most free memory, distributes the layers over several GPUs if the
    model does not fit on one, and takes the CPU if no GPU works. `free_bytes` lists the free memory
    of each GPU; it is measured if not given.

    Raises:
        ModelBroken: the device that was asked for does not exist.
    """
    if device == "cpu":
        return Placement("cpu")
    if device != "auto":
        index, count = int(device.partition(":")[2] or 0), len(free_bytes or ()) or num_gpus()
        if index >= count:
            reason = None if count else why_idle()
            raise ModelBroken(
                f"device {device} was asked for and this machine has {count} CUDA devices"
                f"{f' ({reason})' if reason else ''}; set `device` to auto, cpu or one that exists"
            )
        return Placement(f"cuda:{index}")
    free = _free_bytes() if free_bytes is None else list(free_bytes)
    if not free:
        return Placement("cpu")
    best = max(range(len(free)), key=free.__getitem__)
    if len(free) > 1 and weight_bytes * HEADROOM > free[best]:
        return Placement(None, device_map="auto")
    return Placement(f"cuda:{best}")


def num_gpus() -> int:
    """How many GPUs this process may use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _free_bytes() -> list[int]:
    """The free memory of each GPU.

    With several GPUs nvidia-smi is asked: asking CUDA creates a context on each, which occupies
    some hundred MiB for as long as the process runs.
    """
    count = num_gpus()
    if count < 2:
        return [torch.cuda.mem_get_info(i)[0] for i in range(count)]
    installed = {gpu.uuid: gpu.free_bytes for gpu in installed_gpus()}
    free = [installed.get(f"GPU-{torch.cuda.get_device_properties(i).uuid}") for i in range(count)]
    return [
        torch.cuda.mem_get_info(i)[0] if known is None else known for i, known in enumerate(free)
    ]
