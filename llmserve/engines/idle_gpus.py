"""Why torch does not use a machine's GPUs, as a model would otherwise be slow without a reason."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from llmserve.machine.gpus import has_gpus, hides_gpus


def why_idle(root: Path = Path("/")) -> str | None:
    """The reason; `None` if torch can use a GPU, if there is none, or if CUDA_VISIBLE_DEVICES hides
    all GPUs from this process."""
    if torch.cuda.is_available() or hides_gpus(os.environ) or not has_gpus(root):
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built without CUDA; install a build with CUDA by "
            "`pip install torch` with the index that pytorch.org gives for this driver"
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
