"""What adapters add to a layer's results, row by row, in two launches: rows × down, then × up. A
row without an adapter, or whose adapter leaves the layer alone, is skipped.

Where matrices are is read from tables in fixed memory, so that a recorded graph goes on when
adapters come and go.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads a kernel's annotations for its own purposes.

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl

from llmserve.engines.batching.compute.cuda.low_rank_table import LowRankTable

DEPTH: Final = 256
"""Numbers of a row that are read at once."""
COLUMNS: Final = 64
RANKS: Final = 16
"""The least number that a program computes, as ranks are masked."""


def add_low_rank(
    x: torch.Tensor,  # (num_rows, in_features)
    slots: torch.Tensor,  # (num_rows,) int32
    table: LowRankTable,
    out: torch.Tensor,  # (num_rows, out_features)
    max_rank: int,
) -> None:
    """Add to `out` in place. All are contiguous; matrices have the type of `x`. Never waits for the
    device."""
    num_rows, depth = x.shape
    columns = out.shape[1]
    ranks = max(RANKS, triton.next_power_of_2(max_rank))
    shrunk = torch.empty(num_rows, ranks, dtype=torch.float32, device=x.device)
    _shrink_kernel[(num_rows, ranks // RANKS)](
        x, slots, table.downs, table.ranks, shrunk,
        IN_FEATURES=depth, ALL_RANKS=ranks, RANKS=RANKS, DEPTH=DEPTH,
    )  # fmt: skip
    _expand_kernel[(num_rows, triton.cdiv(columns, COLUMNS))](
        shrunk, slots, table.ups, table.ranks, out,
        OUT_FEATURES=columns, ALL_RANKS=ranks, COLUMNS=COLUMNS,
    )  # fmt: skip


@triton.jit
def _shrink_kernel(
    x,
    slots,
    downs,
    ranks,
    shrunk,
    IN_FEATURES: tl.constexpr,  # noqa: N803
    ALL_RANKS: tl.constexpr,  # noqa: N803
    RANKS: tl.constexpr,  # noqa: N803
    DEPTH: tl.constexpr,  # noqa: N803
):
    """Grid (num_rows, parts of the rank). Writes 0 where the rank is smaller."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row)
    if slot < 0:
        return
    rank = tl.load(ranks + slot)
    first = tl.program_id(1) * RANKS
    if first >= rank:
        return
    down = tl.load(downs + slot).to(tl.pointer_type(x.dtype.element_ty))
    numbers = first + tl.arange(0, RANKS)
    sums = tl.zeros((RANKS,), tl.float32)
    for start in range(0, IN_FEATURES, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        inside = depth < IN_FEATURES
        values = tl.load(x + row * IN_FEATURES + depth, mask=inside, other=0.0)
        weights = tl.load(
            down + numbers[:, None] * IN_FEATURES + depth[None, :],
            mask=(numbers < rank)[:, None] & inside[None, :],
            other=0.0,
        )
        sums += tl.sum(weights.to(tl.float32) * values.to(tl.float32)[None, :], axis=1)
    tl.store(shrunk + row * ALL_RANKS + numbers, sums)


@triton.jit
def _expand_kernel(
    shrunk,
    slots,
    ups,
    ranks,
    out,
    OUT_FEATURES: tl.constexpr,  # noqa: N803
    ALL_RANKS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    """Grid (num_rows, parts of the columns)."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row)
    if slot < 0:
        return
    rank = tl.load(ranks + slot)
    if rank == 0:
        return
    up = tl.load(ups + slot).to(tl.pointer_type(out.dtype.element_ty))
    numbers = tl.arange(0, ALL_RANKS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < OUT_FEATURES
    values = tl.load(shrunk + row * ALL_RANKS + numbers, mask=numbers < rank, other=0.0)
    weights = tl.load(
        up + columns[:, None] * rank + numbers[None, :],
        mask=inside[:, None] & (numbers < rank)[None, :],
        other=0.0,
    )
    sums = tl.sum(weights.to(tl.float32) * values[None, :], axis=1)
    place = out + row * OUT_FEATURES + columns
    before = tl.load(place, mask=inside, other=0.0)
    tl.store(place, (before.to(tl.float32) + sums).to(out.dtype.element_ty), mask=inside)
