"""A kernel that asks for more shared memory than any GPU has."""
# mypy: allow-untyped-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
import triton.language as tl


def greedy() -> None:
    """Launch it."""
    left = torch.randn(256, 4096, device="cuda").to(torch.bfloat16)
    result = torch.empty(256, 256, device="cuda")
    _greedy_kernel[(1,)](left, result, SIZE=256, DEPTH=128, num_warps=8, num_stages=6)
    torch.cuda.synchronize()


@triton.jit
def _greedy_kernel(left, result, SIZE: tl.constexpr, DEPTH: tl.constexpr):  # noqa: N803
    rows = tl.arange(0, SIZE)
    depth = tl.arange(0, DEPTH)
    total = tl.zeros([SIZE, SIZE], tl.float32)
    for start in tl.range(0, 4096, DEPTH):
        tile = tl.load(left + rows[:, None] * 4096 + start + depth[None, :])
        other = tl.load(left + rows[None, :] * 4096 + start + depth[:, None])
        total += tl.dot(tile, other)
    tl.store(result + rows[:, None] * SIZE + rows[None, :], total)
