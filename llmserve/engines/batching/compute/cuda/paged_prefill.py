"""Prefill attention over the block table, for what torch's FlashAttention does not support:
softcap, sinks, chunks, float32, uneven head sizes, contexts too long to gather."""

from __future__ import annotations

import torch

from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows, kernel_arguments
from llmserve.engines.batching.compute.cuda.paged_kernel import paged_kernel
from llmserve.engines.batching.compute.cuda.tiling import prefill_tiling


def paged_prefill(rows: Rows, layer: CachedLayer, capability: int) -> torch.Tensor:
    """Causal attention of rows of any length; the result is as wide as the values."""
    result = layer.result_for(rows.query)
    tiling = prefill_tiling(capability, layer.widest, result.shape[2], layer.keys.dtype)
    parts = -(-rows.max_query * layer.group(rows.query) // tiling.rows)
    paged_kernel[(parts, layer.kv_heads, rows.num_rows)](
        result=result,
        partial_mixed=result,
        partial_peak=result,
        partial_total=result,
        SPLITS=1,
        IS_DECODE=False,
        **kernel_arguments(rows, layer, tiling),
    )
    return result
