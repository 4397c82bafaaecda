"""Prefill attention over the block table, for what FlashAttention of torch does not take: softcap,
sinks, float32, uneven head sizes, contexts too long to gather."""

from __future__ import annotations

import torch

from llmserve.engines.batching.compute.cuda.launch import Layer, Rows, kernel_arguments
from llmserve.engines.batching.compute.cuda.paged_kernel import padded, paged_kernel


def paged_prefill(rows: Rows, layer: Layer) -> torch.Tensor:
    """Causal attention of rows of any length; the result has the shape of the query."""
    result = rows.query.new_empty(rows.query.shape)
    tile = query_tile(layer.keys.shape[3], layer.keys.dtype)
    parts = -(-rows.max_query * layer.group(rows.query) // tile)
    paged_kernel[(parts, layer.kv_heads, rows.num_rows)](
        result=result,
        partial_mixed=result,
        partial_peak=result,
        partial_total=result,
        ROWS=tile,
        SPLITS=1,
        IS_DECODE=False,
        num_warps=8 if tile == 128 else 4,
        num_stages=3,
        **kernel_arguments(rows, layer),
    )
    return result


def query_tile(head_dim: int, dtype: torch.dtype) -> int:
    """Query rows of a program: as many as its registers hold accumulators for."""
    if dtype.itemsize > 2:
        return 32
    return 128 if padded(head_dim) <= 128 else 64
