"""Large pages for memory that every step reads."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

import torch

HUGE_PAGE: Final = 1 << 21
_MADV_HUGEPAGE: Final = 14


def empty(
    shape: tuple[int, ...] | torch.Size, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """As `torch.empty`; on a CPU the system is asked for pages of 2 MB: with pages of 4 KB, reading
    a scattered block waits for its address to be translated. If refused, only speed is lost."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cpu" and sys.platform == "linux":
        begin = -(-tensor.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        end = (tensor.data_ptr() + tensor.nbytes) // HUGE_PAGE * HUGE_PAGE
        if begin < end:
            libc = ctypes.CDLL(None)
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_HUGEPAGE)
    return tensor
