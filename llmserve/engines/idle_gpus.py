"""Why torch does not use the GPUs that a machine has: a model that is served by its CPU instead is
slow without a word."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from llmserve.machine.gpus import has_gpus, hides_gpus


def why_idle(root: Path = Path("/")) -> str | None:
    """`None` where torch can use a GPU, where there is none, and where CUDA_VISIBLE_DEVICES keeps
    this process from all of them."""
    if torch.cuda.is_available() or hides_gpus(os.environ) or not has_gpus(root):
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built without CUDA; install a build that has it, as in "
            "`pip install torch` with the index that pytorch.org names for this driver"
        )
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch's own stub
    except (RuntimeError, AssertionError) as error:
        return (
            f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no device that works: "
            f"{str(error).splitlines()[0]}; update the driver, install a torch for its CUDA "
            "version, or give the container the GPUs (`--gpus all`)"
        )
    return None
