"""How many blocks and recurrent states the cache has, with the arithmetic for the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import torch

from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.state_sizing import (
    NumStates,
    share_of_states,
    states_within,
)
from llmserve.engines.memory_share import MemoryShare, Occupancy
from llmserve.engines.weights.footprint import CACHE_TOKENS
from llmserve.errors import ModelBroken

CPU_SHARE: Final = 0.4
"""Of the memory that is free; a host has other uses for the rest."""
MOST_EMPTY_BLOCKS: Final = 2**17
"""Of a model that stores nothing in them; the scheduler keeps count of each."""
LEAST_TOKENS: Final = 512
"""A model is not worth serving without room for so many, or for a whole context if that is less."""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The numbers of blocks and of states, and how they were found."""

    num_blocks: int
    states: NumStates
    arithmetic: str


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """What is asked of the KV cache.

    Attributes:
        block_size: tokens per block.
        max_running: sequences at once.
        num_bytes: its size, states apart, `None` for what suits the device.
        share: what of the device's memory may be taken.
        is_caching: whether prefixes are kept, and so checkpoints of recurrent states.
    """

    block_size: int
    max_running: int
    num_bytes: int | None = None
    share: MemoryShare = field(default_factory=MemoryShare)
    is_caching: bool = True

    @property
    def most_checkpoints(self) -> int:
        """Where memory is not shared out between states and KV cache: one for each sequence."""
        return self.max_running if self.is_caching else 0


def gpu_cache_size(
    shape: CacheShape,
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
    per_token, per_state = shape.bytes_per_token(dtype), shape.bytes_per_state
    share = options.share.of(device, weight_bytes)
    room = share - headroom_bytes
    why = f"({options.share.arithmetic(device, weight_bytes)}) = {share:,} - {headroom}"
    least = min(LEAST_TOKENS, max_context) * per_token
    wanted = least if options.num_bytes is None else options.num_bytes
    wanted += states_within(0, per_state, 1, 0).num_bytes
    if wanted > room:
        raise ModelBroken(
            f"no room for the KV cache: it wants {wanted:,} bytes, and there are {why} = {room:,}; "
            "lower kv_cache_bytes, max_tokens_per_step or max_running, serve fewer models on this "
            "device, or a smaller one"
        )
    if options.num_bytes is not None:
        left = room - options.num_bytes
        states = states_within(left, per_state, options.max_running, options.most_checkpoints)
        why = f"kv_cache_bytes, of {why} = {room:,}"
        return _cache_size(options.num_bytes, states, per_token, options, max_context, why)
    states = _share_of_states(room, per_state, least, options)
    left = room - states.num_bytes
    return _cache_size(left, states, per_token, options, max_context, f"{why} = {room:,}")


def most_running(
    shape: CacheShape,
    dtype: torch.dtype,
    options: CacheOptions,
    *,
    device: Occupancy,
    weight_bytes: int,
) -> int:
    """How many requests' states a GPU has room for before it is known what steps need."""
    room = options.share.of(device, weight_bytes) - (options.num_bytes or 0)
    if options.num_bytes is None:
        room //= 2 if shape.bytes_per_token(dtype) else 1
    return states_within(room, shape.bytes_per_state, options.max_running, 0).running


def cpu_cache_size(
    shape: CacheShape,
    dtype: torch.dtype,
    options: CacheOptions,
    *,
    free_bytes: int,
    max_context: int,
) -> CacheSize:
    """What was asked for, or what `max_running` requests of the usual length need, but at least one
    whole context, and a state and a checkpoint for each; no more than a share of what is free."""
    per_token, per_state = shape.bytes_per_token(dtype), shape.bytes_per_state
    most = int(free_bytes * CPU_SHARE * options.share.part)
    states = states_within(most, per_state, options.max_running, options.most_checkpoints)
    if options.num_bytes is not None:
        why = f"kv_cache_bytes = {options.num_bytes:,}"
        return _cache_size(options.num_bytes, states, per_token, options, max_context, why)
    usual_tokens = min(CACHE_TOKENS, max_context)
    usual = (
        max(options.max_running * usual_tokens, max_context)
        + options.block_size * options.max_running
    )
    why = (
        f"the lesser of {options.max_running} requests × {usual_tokens:,} tokens "
        f"and {CPU_SHARE} × {options.share.part:.3g} of {free_bytes:,} bytes free"
    )
    if usual * per_token + states.num_bytes > most:
        least = min(LEAST_TOKENS, max_context) * per_token
        states = _share_of_states(most, per_state, least, options)
    budget = min(usual * per_token, most - states.num_bytes)
    return _cache_size(budget, states, per_token, options, max_context, why)


def _share_of_states(
    num_bytes: int, per_state: int, least_left: int, options: CacheOptions
) -> NumStates:
    return share_of_states(
        num_bytes,
        per_state,
        options.max_running,
        least_left=least_left,
        is_caching=options.is_caching,
    )


def _cache_size(
    budget: int,
    states: NumStates,
    per_token: int,
    options: CacheOptions,
    max_context: int,
    why: str,
) -> CacheSize:
    size = options.block_size
    # More than the whole context of every request can never be used, but for prefixes.
    whole = -(-max_context // size)
    num_blocks = (options.max_running + 1) * whole
    if per_token:
        num_blocks = min(num_blocks, max(1, budget // (per_token * size)))
    else:  # no layer attends, and blocks are book-keeping
        num_blocks = min(num_blocks, max(whole, MOST_EMPTY_BLOCKS))
    arithmetic = (
        f"{num_blocks:,} blocks × {size} tokens × {per_token:,} bytes per token = "
        f"{num_blocks * size * per_token:,} bytes, room for {num_blocks * size:,} tokens ({why})"
    )
    if states.bytes_each:
        arithmetic += f"; {states}"
    return CacheSize(num_blocks, states, arithmetic)
