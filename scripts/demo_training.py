"""What the trainers of the demo's models share: a process that computes the same each time, memory
that stays, a learning rate."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import random
from pathlib import Path
from typing import Final

import torch

WARMUP_STEPS: Final = 150
M_TRIM_THRESHOLD: Final = -1  # of mallopt(3)
M_MMAP_THRESHOLD: Final = -3


def be_deterministic(seed: int, threads: int) -> None:
    """Seed this process; the same machine and version of torch then give the same model."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, it is not always so
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a fifth of the time


def keep_memory() -> None:
    """Keep glibc from giving large blocks back at every step: half the time went to that."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(parameter, 2**30)


def rate(step: int, steps: int) -> float:
    """The learning rate's share of its peak: warm-up, then a cosine."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_readable(folder: Path) -> None:
    """Let everybody read a model: safetensors writes for the owner alone."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
