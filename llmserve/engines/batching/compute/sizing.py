"""How many blocks the KV cache gets, with the arithmetic for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.footprint import CACHE_TOKENS

GPU_SHARE: Final = 0.9
"""Of the memory that is free once the weights are there; the rest is for activations."""
CPU_SHARE: Final = 0.4
"""Of the memory that is free; a host has other uses for the rest."""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Blocks, and how the number came about."""

    num_blocks: int
    arithmetic: str


def cache_size(
    layers: Sequence[LayerShape],
    dtype: torch.dtype,
    block_size: int,
    *,
    is_gpu: bool,
    free_bytes: int,
    max_running: int,
    max_context: int,
    asked_bytes: int | None = None,
    share: float = 1.0,
) -> CacheSize:
    """Room for the KV cache.

    What was asked for, if anything was. On a GPU all that is free, but for a reserve, divided
    among the workers that `share` counts. On a CPU what `max_running` requests of the usual
    length want, and no more than a share of what is free; always one whole context, if there is
    room for it.
    """
    per_token = sum(layer.bytes_per_token(dtype) for layer in layers)
    whole_context = -(-max_context // block_size)
    if asked_bytes is not None:
        budget, why = asked_bytes, f"kv_cache_bytes = {asked_bytes:,}"
    elif is_gpu:
        budget = int(free_bytes * GPU_SHARE * share)
        why = f"{free_bytes:,} bytes free × {GPU_SHARE} × {share:.3g} (share of this worker)"
    else:
        usual = max(max_running * min(CACHE_TOKENS, max_context), max_context)
        most = int(free_bytes * CPU_SHARE * share)
        budget = min((usual + block_size * max_running) * per_token, most)
        why = (
            f"the lesser of {max_running} requests × {min(CACHE_TOKENS, max_context):,} tokens "
            f"and {CPU_SHARE} × {share:.3g} of {free_bytes:,} bytes free"
        )
    num_blocks = max(1, budget // (per_token * block_size))
    # More than every request's whole context can never be used, prefixes aside.
    num_blocks = min(num_blocks, (max_running + 1) * whole_context)
    num_bytes = num_blocks * block_size * per_token
    return CacheSize(
        num_blocks,
        f"{num_blocks:,} blocks × {block_size} tokens × {per_token:,} bytes per token = "
        f"{num_bytes:,} bytes, room for {num_blocks * block_size:,} tokens ({why})",
    )
