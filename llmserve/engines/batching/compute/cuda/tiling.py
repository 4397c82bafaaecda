"""How the paged kernel's work is tiled, by GPU generation: large tiles that fit into registers and
shared memory without spilling, as the tests check by compiling them.

generation       capability  what decides
Turing           7.5         64 KiB of shared memory, no asynchronous copies
Ampere, Ada      8.x         accumulators in registers
Hopper           9.0         a group of four warps multiplies from shared memory
Blackwell        10.x        as Hopper; its consumer cards, 12.x, as Ada with fewer registers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.batching.compute.cuda.paged_kernel import padded

TURING: Final = 7
WIDE_PRODUCTS: Final = (9, 10)
"""Major capabilities whose matrix units read tiles from shared memory."""
CONSUMER_BLACKWELL: Final = 12
LARGE_TILE: Final = 2**15
"""Numbers of a query tile for which four warps have too few registers."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """Attributes:
    rows: query rows of a program.
    tokens: of the context in one tile.
    warps: of a program.
    stages: tiles in flight at once.
    """

    rows: int
    tokens: int
    warps: int
    stages: int


def decode_tiling(capability: int, group: int, head_dim: int, dtype: torch.dtype) -> Tiling:
    """One query token: its `group` heads are the rows. `capability` is the major one."""
    rows = padded(group)
    if capability <= TURING:
        if rows > 16:
            return Tiling(rows, 16, warps=8, stages=1)
        return _small_tiling(head_dim, dtype)
    tokens = _tile_tokens(head_dim, dtype, 16384, 128)
    if dtype.itemsize > 2:
        return Tiling(rows, tokens, warps=8, stages=4)
    is_large = rows * padded(head_dim) >= LARGE_TILE
    return Tiling(rows, tokens, warps=8 if is_large or rows >= 128 else 4, stages=5)


def prefill_tiling(capability: int, head_dim: int, value_dim: int, dtype: torch.dtype) -> Tiling:
    """Many query tokens: as many rows as the registers hold accumulators for. `head_dim` is that of
    a key or a value, whichever has more."""
    if capability <= TURING:
        return _small_tiling(head_dim, dtype)
    if dtype.itemsize > 2:
        return Tiling(16, _tile_tokens(head_dim, dtype, 16384, 128), warps=4, stages=3)
    if capability in WIDE_PRODUCTS:
        width = padded(head_dim)
        rows, warps = (128, 8) if width <= 128 else (64, 4) if width <= 256 else (64, 8)
        tokens, stages = _tile_tokens(head_dim, dtype, 16384, 128), 3 if width <= 512 else 2
        return Tiling(rows, tokens, warps=warps, stages=stages)
    width = padded(value_dim)
    if capability == CONSUMER_BLACKWELL and 64 < width <= 128:
        return Tiling(64, _tile_tokens(value_dim, dtype, 8192, 64), warps=4, stages=3)
    rows, num_bytes = (128, 8192) if width <= 128 else (64, 16384) if width <= 256 else (32, 16384)
    return Tiling(rows, _tile_tokens(value_dim, dtype, num_bytes, 64), warps=8, stages=3)


def _small_tiling(head_dim: int, dtype: torch.dtype) -> Tiling:
    """For little shared memory."""
    warps = 4 if padded(head_dim) <= 256 else 8
    return Tiling(16, _tile_tokens(head_dim, dtype, 8192, 32), warps=warps, stages=1)


def _tile_tokens(head_dim: int, dtype: torch.dtype, num_bytes: int, most: int) -> int:
    """As many tokens as have keys of `num_bytes` together."""
    return min(most, max(16, num_bytes // (padded(head_dim) * dtype.itemsize)))
