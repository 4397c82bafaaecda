"""How many blocks the KV cache has, with the arithmetic for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.memory_share import MemoryShare, Occupancy
from llmserve.engines.weights.footprint import CACHE_TOKENS
from llmserve.errors import ModelBroken

CPU_SHARE: Final = 0.4
"""Of the memory that is free; a host has other uses for the rest."""
LEAST_TOKENS: Final = 512
"""A model is not worth serving without room for so many, or for a whole context if that is less."""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The number of blocks, and how it was found."""

    num_blocks: int
    arithmetic: str


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """What is asked of the KV cache.

    Attributes:
        block_size: tokens per block.
        max_running: sequences at once.
        num_bytes: its size, `None` for what suits the device.
        share: what of the device's memory may be taken.
    """

    block_size: int
    max_running: int
    num_bytes: int | None = None
    share: MemoryShare = field(default_factory=MemoryShare)


def gpu_cache_size(
    layers: Sequence[LayerShape],
    dtype: torch.dtype,
    options: CacheOptions,
    *,
    device: Occupancy,
    weight_bytes: int,
    headroom_bytes: int,
    headroom: str,
    max_context: int,
) -> CacheSize:
    """What was asked for, or this model's whole share without the `headroom_bytes` that steps and
    graphs need (`headroom` tells how many for which).

    Raises:
        ModelBroken: there is no room for it, or for a cache worth having; shows the arithmetic.
    """
    per_token = _bytes_per_token(layers, dtype)
    share = options.share.of(device, weight_bytes)
    room = share - headroom_bytes
    why = f"({options.share.arithmetic(device, weight_bytes)}) = {share:,} - {headroom}"
    least = min(LEAST_TOKENS, max_context) * per_token
    wanted = least if options.num_bytes is None else options.num_bytes
    if wanted > room:
        raise ModelBroken(
            f"no room for the KV cache: it wants {wanted:,} bytes, and there are {why} = {room:,}; "
            "lower kv_cache_bytes, max_tokens_per_step or max_running, serve fewer models on this "
            "device, or a smaller one"
        )
    if options.num_bytes is not None:
        return _cache_size(
            options.num_bytes,
            per_token,
            options,
            max_context,
            f"kv_cache_bytes, of {why} = {room:,}",
        )
    return _cache_size(room, per_token, options, max_context, f"{why} = {room:,}")


def cpu_cache_size(
    layers: Sequence[LayerShape],
    dtype: torch.dtype,
    options: CacheOptions,
    *,
    free_bytes: int,
    max_context: int,
) -> CacheSize:
    """What was asked for, or what `max_running` requests of the usual length need, but at least one
    whole context; no more than a share of what is free."""
    per_token = _bytes_per_token(layers, dtype)
    if options.num_bytes is not None:
        why = f"kv_cache_bytes = {options.num_bytes:,}"
        return _cache_size(options.num_bytes, per_token, options, max_context, why)
    usual_tokens = min(CACHE_TOKENS, max_context)
    usual = (
        max(options.max_running * usual_tokens, max_context)
        + options.block_size * options.max_running
    )
    most = int(free_bytes * CPU_SHARE * options.share.part)
    why = (
        f"the lesser of {options.max_running} requests × {usual_tokens:,} tokens "
        f"and {CPU_SHARE} × {options.share.part:.3g} of {free_bytes:,} bytes free"
    )
    return _cache_size(min(usual * per_token, most), per_token, options, max_context, why)


def _cache_size(
    budget: int, per_token: int, options: CacheOptions, max_context: int, why: str
) -> CacheSize:
    size = options.block_size
    # More than the whole context of every request can never be used, but for prefixes.
    num_blocks = (options.max_running + 1) * -(-max_context // size)
    if per_token:  # else no layer attends, and blocks are book-keeping
        num_blocks = min(num_blocks, max(1, budget // (per_token * size)))
    return CacheSize(
        num_blocks,
        f"{num_blocks:,} blocks × {size} tokens × {per_token:,} bytes per token = "
        f"{num_blocks * size * per_token:,} bytes, room for {num_blocks * size:,} tokens ({why})",
    )


def _bytes_per_token(layers: Sequence[LayerShape], dtype: torch.dtype) -> int:
    return sum(layer.bytes_per_token(dtype) for layer in layers)
