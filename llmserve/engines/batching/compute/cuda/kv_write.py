"""Stores new keys and values in their slots in one launch. For a slot of -1 nothing is stored, so
that the padded rows of a CUDA graph do not change the cache."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads a kernel's annotations for its own purposes.

from __future__ import annotations

import math
from typing import Final

import torch
import triton
import triton.language as tl

from llmserve.engines.batching.compute.kv_cache import KVCache

ALIGNMENT_BYTES: Final = 16
MOST_UNIT: Final = 16
"""Numbers; with strides that are known to be multiples, whole vectors are read."""
# They depend on a batch's length, and Triton would compile a variant for each divisibility.
STRIDES: Final = (
    "key_token_stride", "key_head_stride", "value_token_stride", "value_head_stride",
)  # fmt: skip


class CudaKVCache(KVCache):
    """A `KVCache` that a kernel writes to."""

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """See `KVCache.write`; negative slots are skipped."""
        has_values = self.layers[layer].expanded is None
        write_slots(
            self.keys[layer], self.values[layer], slots, keys, values if has_values else None
        )


def write_slots(
    cached_keys: torch.Tensor,  # (num_blocks, kv_heads, block_size, head_dim)
    cached_values: torch.Tensor,  # values, here and below, may be of another width
    slots: torch.Tensor,  # (num_tokens,)
    keys: torch.Tensor,  # (num_tokens, kv_heads, head_dim)
    values: torch.Tensor | None,
) -> None:
    """Keys and values may be strided views; without values only keys are stored. Never waits for
    the device."""
    num_tokens, kv_heads, head_dim = keys.shape
    value_dim = 0 if values is None else values.shape[2]
    if num_tokens == 0:
        return
    unit = math.gcd(head_dim, value_dim, MOST_UNIT)
    keys = _in_units(keys, unit)
    values = keys if values is None else _in_units(values, unit)
    most = kv_heads * max(head_dim, value_dim)
    width = min(1024, triton.next_power_of_2(most))
    _write_kernel[(num_tokens, triton.cdiv(most, width))](
        cached_keys,
        cached_values,
        slots,
        keys,
        values,
        keys.stride(0) // unit,
        keys.stride(1) // unit,
        values.stride(0) // unit,
        values.stride(1) // unit,
        UNIT=unit,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        VALUE_DIM=value_dim,
        BLOCK_SIZE=cached_keys.shape[2],
        WIDTH=width,
    )


def _in_units(cells: torch.Tensor, unit: int) -> torch.Tensor:
    """With an aligned start and strides of whole units, so that one variant of the kernel is enough
    for every batch."""
    is_even = cells.stride(0) % unit == 0 and cells.stride(1) % unit == 0
    is_aligned = cells.data_ptr() % ALIGNMENT_BYTES == 0
    if is_even and is_aligned and cells.stride(2) == 1:
        return cells
    return cells.clone(memory_format=torch.contiguous_format)


@triton.jit(do_not_specialize=STRIDES)
def _write_kernel(
    cached_keys,
    cached_values,
    slots,
    keys,
    values,
    key_token_stride,
    key_head_stride,
    value_token_stride,
    value_head_stride,
    UNIT: tl.constexpr,  # noqa: N803
    KV_HEADS: tl.constexpr,  # noqa: N803
    HEAD_DIM: tl.constexpr,  # noqa: N803
    VALUE_DIM: tl.constexpr,  # noqa: N803
    BLOCK_SIZE: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
):
    """Grid (num_tokens, parts of a token's numbers). Strides are in units of UNIT numbers."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    numbers = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    first = slot // BLOCK_SIZE * KV_HEADS
    head = numbers // HEAD_DIM
    dims = numbers % HEAD_DIM
    is_number = numbers < KV_HEADS * HEAD_DIM
    place = ((first + head) * BLOCK_SIZE + slot % BLOCK_SIZE) * HEAD_DIM + dims
    new_keys = tl.load(
        keys + token * (key_token_stride * UNIT) + head * (key_head_stride * UNIT) + dims,
        mask=is_number,
    )
    tl.store(cached_keys + place, new_keys.to(cached_keys.dtype.element_ty), mask=is_number)
    if VALUE_DIM > 0:
        head = numbers // VALUE_DIM
        dims = numbers % VALUE_DIM
        is_number = numbers < KV_HEADS * VALUE_DIM
        place = ((first + head) * BLOCK_SIZE + slot % BLOCK_SIZE) * VALUE_DIM + dims
        new_values = tl.load(
            values + token * (value_token_stride * UNIT) + head * (value_head_stride * UNIT) + dims,
            mask=is_number,
        )
        tl.store(
            cached_values + place, new_values.to(cached_values.dtype.element_ty), mask=is_number
        )
