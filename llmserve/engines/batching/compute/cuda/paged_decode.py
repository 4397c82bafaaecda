"""Decode attention: one query token per row, the context split among programs and the parts reduced
(flash-decoding, https://pytorch.org/blog/flash-decoding/)."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads a kernel's annotations for its own purposes.

from __future__ import annotations

import torch
import triton
import triton.language as tl

from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows, kernel_arguments
from llmserve.engines.batching.compute.cuda.paged_kernel import LOG2_E, padded, paged_kernel
from llmserve.engines.batching.compute.cuda.tiling import decode_tiling


def paged_decode(rows: Rows, layer: CachedLayer, capability: int, *, splits: int) -> torch.Tensor:
    """Attention of rows with one token each; the result is as wide as the values.

    `splits` is a power of two. Never waits for the device.
    """
    result = layer.result_for(rows.query)
    num_rows, query_heads, value_dim = result.shape
    if num_rows == 0:
        return result
    is_split = splits > 1
    parts = (num_rows, query_heads, splits)
    mixed = _empty(result, (*parts, padded(value_dim))) if is_split else result
    peak = _empty(result, parts) if is_split else result
    total = _empty(result, parts) if is_split else result
    group = layer.group(rows.query)
    tiling = decode_tiling(capability, group, layer.widest, layer.keys.dtype)
    arguments = kernel_arguments(rows, layer, tiling)
    paged_kernel[(splits, layer.kv_heads, num_rows)](
        result=result,
        partial_mixed=mixed,
        partial_peak=peak,
        partial_total=total,
        SPLITS=splits,
        IS_DECODE=True,
        **arguments,
    )
    if is_split:
        _reduce_kernel[(num_rows, query_heads)](
            mixed,
            peak,
            total,
            arguments["sinks"],
            result,
            VALUE_DIM=value_dim,
            PADDED_VALUE=padded(value_dim),
            SPLITS=splits,
            HAS_SINKS=layer.variant.sinks is not None,
            num_warps=4,
        )
    return result


def _empty(like: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


@triton.jit
def _reduce_kernel(
    partial_mixed,  # (num_rows, query_heads, splits, padded_value) float32
    partial_peak,  # (num_rows, query_heads, splits) float32
    partial_total,
    sinks,  # (query_heads,)
    result,  # (num_rows, query_heads, value_dim)
    VALUE_DIM: tl.constexpr,  # noqa: N803
    PADDED_VALUE: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    HAS_SINKS: tl.constexpr,  # noqa: N803
):
    """One program per row and query head."""
    head = tl.program_id(1)
    place = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + head
    splits = place * SPLITS + tl.arange(0, SPLITS)
    dims = tl.arange(0, PADDED_VALUE)
    peaks = tl.load(partial_peak + splits)
    totals = tl.load(partial_total + splits)
    base = tl.max(peaks, 0)
    if HAS_SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * LOG2_E
        base = tl.maximum(base, sink)
    base = tl.where(base == float("-inf"), 0.0, base)
    weights = tl.exp2(peaks - base)
    total = tl.sum(totals * weights, 0)
    if HAS_SINKS:
        total += tl.exp2(sink - base)
    parts = tl.load(
        partial_mixed + splits[:, None] * PADDED_VALUE + dims[None, :],
        mask=(peaks > float("-inf"))[:, None],
        other=0.0,
    )
    mixed = tl.sum(parts * weights[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(
        result + place * VALUE_DIM + dims, mixed.to(result.dtype.element_ty), mask=dims < VALUE_DIM
    )
