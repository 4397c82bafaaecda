"""What this machine is, whether a kernel runs on it at all, and its two ceilings."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata

import torch

from measure.roofline import copy_bandwidth


def main() -> int:
    """Print it."""
    print("python", platform.python_version(), "cores", len(os.sched_getaffinity(0)))
    for name in ("torch", "triton", "transformers", "flash-attn", "flash-attn-3", "accelerate"):
        try:
            print(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            print(name, "is not installed")
    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi"], check=False)
    print("compilers:", {name: shutil.which(name) for name in ("gcc", "cc", "clang", "nvcc")})
    if not torch.cuda.is_available():
        print("=> torch sees no CUDA device")
        return 1
    device = torch.device("cuda:0")
    about = torch.cuda.get_device_properties(device)
    print(about)
    print(
        f"=> {about.name}, capability {about.major}.{about.minor}, "
        f"{about.total_memory / 2**30:.0f} GiB, driver's CUDA for torch {torch.version.cuda}, "
        f"torch {torch.__version__}, triton {metadata.version('triton')}, "
        f"transformers {metadata.version('transformers')}"
    )
    _trivial_kernel(device)
    bandwidth = copy_bandwidth(device)
    print(f"=> copy {bandwidth / 1e12:.2f} TB/s, bf16 product {_product_rate(device):.0f} TFLOP/s")
    return 0


def _trivial_kernel(device: torch.device) -> None:
    from measure.gpu.contact.trivial_kernel import doubled

    numbers = torch.randn(1000, device=device)
    torch.testing.assert_close(doubled(numbers), numbers * 2)
    print("=> a Triton kernel compiled and ran")


def _product_rate(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    for _ in range(3):
        left @ right
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        left @ right
    end.record()
    end.synchronize()
    return 2 * size**3 * repeats / begin.elapsed_time(end) / 1e9


if __name__ == "__main__":
    sys.exit(main())
