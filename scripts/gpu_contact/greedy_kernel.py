"""A kernel that asks for more shared memory than any GPU has."""
# mypy: allow-untyped-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
import triton.language as tl


def greedy() -> None:
    """Launch it."""
    size = 256
    left = torch.randn(size, size, device="cuda")
    _greedy_kernel[(1,)](left, left, SIZE=size, num_stages=4)
    torch.cuda.synchronize()


@triton.jit
def _greedy_kernel(left, result, SIZE: tl.constexpr):  # noqa: N803
    rows = tl.arange(0, SIZE)
    cells = rows[:, None] * SIZE + rows[None, :]
    total = tl.zeros([SIZE, SIZE], tl.float32)
    for step in tl.range(0, 4):
        tile = tl.load(left + cells + step)
        total += tl.dot(tile, tile, input_precision="ieee")
    tl.store(result + cells, total)
