"""The Triton kernel behind decode and prefill: attention of a row's new tokens over its blocks.

Online softmax over tiles of the context (FlashAttention, arXiv 2205.14135), read through the block
table (PagedAttention, arXiv 2309.06180). All query heads of a KV head share one program:

folded row   0        1        ...   GROUP-1   GROUP     ...        folded = token × GROUP + head
             token 0                           token 1              and every row reads the same
             head 0   head 1         last      head 0               keys and values
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads a kernel's annotations for its own purposes.

from __future__ import annotations

from typing import Final

import triton
import triton.language as tl

# Softmax in base two: one instruction on the GPU, the scores are scaled to match.
LOG2_E: Final = tl.constexpr(1.4426950408889634)
# Triton compiles variants for arguments that are 1 or divisible by 16. These change from batch to
# batch, and nothing may be compiled while requests wait.
CHANGING_NUMBERS: Final = (
    "window", "chunk", "query_token_stride", "query_head_stride", "table_stride",
)  # fmt: skip
SLICED_TENSORS: Final = ("query", "query_starts", "context_lengths", "block_tables")


def padded(size: int) -> int:
    """The next power of two, at least 16, as Triton's tiles and matrix products need it."""
    return max(16, 1 << (size - 1).bit_length())


@triton.jit(do_not_specialize=CHANGING_NUMBERS, do_not_specialize_on_alignment=SLICED_TENSORS)
def paged_kernel(
    query,  # (num_tokens, query_heads, head_dim)
    keys,  # (num_blocks, kv_heads, block_size, head_dim)
    values,  # (num_blocks, kv_heads, block_size, value_dim)
    result,  # (num_tokens, query_heads, value_dim)
    partial_mixed,  # (num_rows, query_heads, splits, padded_value) float32
    partial_peak,  # (num_rows, query_heads, splits) float32
    partial_total,
    sinks,  # (query_heads,)
    query_starts,  # (num_rows + 1,)
    context_lengths,  # (num_rows,)
    block_tables,  # (num_rows, max_blocks)
    scale,
    softcap,
    window,
    chunk,
    query_token_stride,
    query_head_stride,
    table_stride,
    KV_HEADS: tl.constexpr,  # noqa: N803
    GROUP: tl.constexpr,  # noqa: N803
    HEAD_DIM: tl.constexpr,  # noqa: N803
    PADDED_DIM: tl.constexpr,  # noqa: N803
    TAIL_DIM: tl.constexpr,  # noqa: N803
    PADDED_TAIL: tl.constexpr,  # noqa: N803
    VALUE_DIM: tl.constexpr,  # noqa: N803
    VALUE_STRIDE: tl.constexpr,  # noqa: N803
    PADDED_VALUE: tl.constexpr,  # noqa: N803
    BLOCK_SIZE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    TILE: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    IS_DECODE: tl.constexpr,  # noqa: N803
    HAS_WINDOW: tl.constexpr,  # noqa: N803
    HAS_CHUNK: tl.constexpr,  # noqa: N803
    HAS_SOFTCAP: tl.constexpr,  # noqa: N803
    HAS_SINKS: tl.constexpr,  # noqa: N803
):
    """Grid (parts, kv_heads, num_rows): a part is a split of the context in decode, and a tile of
    the folded query rows in prefill. With SPLITS > 1 the result is left to the reduction."""
    part = tl.program_id(0)
    kv_head = tl.program_id(1)
    row = tl.program_id(2)
    begin = tl.load(query_starts + row)
    length = tl.load(query_starts + row + 1) - begin
    context = tl.load(context_lengths + row)
    first_folded = 0 if IS_DECODE else part * ROWS
    if first_folded >= length * GROUP:
        return
    folded = first_folded + tl.arange(0, ROWS)
    is_query = folded < length * GROUP
    token = folded // GROUP
    head = kv_head * GROUP + folded % GROUP
    position = context - length + token
    dims = tl.arange(0, PADDED_DIM)
    is_dim = dims < HEAD_DIM - TAIL_DIM
    value_dims = tl.arange(0, PADDED_VALUE)
    is_value = value_dims < VALUE_DIM
    places = (begin + token).to(tl.int64) * query_token_stride + head * query_head_stride
    asked = tl.load(
        query + places[:, None] + dims[None, :],
        mask=is_query[:, None] & is_dim[None, :],
        other=0.0,
    )
    asked = asked.to(keys.dtype.element_ty)
    if TAIL_DIM > 0:
        tail_dims = HEAD_DIM - TAIL_DIM + tl.arange(0, PADDED_TAIL)
        is_tail = tail_dims < HEAD_DIM
        asked_tail = tl.load(
            query + places[:, None] + tail_dims[None, :],
            mask=is_query[:, None] & is_tail[None, :],
            other=0.0,
        )
        asked_tail = asked_tail.to(keys.dtype.element_ty)

    # The context's tokens that any query of this tile sees.
    last_token = tl.minimum((first_folded + ROWS - 1) // GROUP, length - 1)
    high = context - length + last_token + 1
    low = 0
    if HAS_WINDOW:
        earliest = context - length + first_folded // GROUP - window + 1
        low = tl.maximum(earliest, 0) // TILE * TILE
    if HAS_CHUNK:
        opening = position // chunk * chunk  # of each query's chunk
        earliest = (context - length + first_folded // GROUP) // chunk * chunk
        low = tl.maximum(low, earliest // TILE * TILE)
    if SPLITS > 1:
        share = tl.cdiv(tl.cdiv(high - low, SPLITS), TILE) * TILE
        low += part * share
        high = tl.minimum(high, low + share)

    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, PADDED_VALUE], tl.float32)
    for start in tl.range(low, high, TILE):
        tokens = start + tl.arange(0, TILE)
        is_inside = tokens < high
        blocks = tl.load(
            block_tables + row.to(tl.int64) * table_stride + tokens // BLOCK_SIZE,
            mask=is_inside,
            other=0,
        ).to(tl.int64)
        cells = (blocks * KV_HEADS + kv_head) * BLOCK_SIZE + tokens % BLOCK_SIZE
        tile_keys = tl.load(
            keys + cells[None, :] * HEAD_DIM + dims[:, None],
            mask=is_inside[None, :] & is_dim[:, None],
            other=0.0,
        )
        # IEEE: float32 models keep their precision; it changes nothing for 16-bit types.
        scores = tl.dot(asked, tile_keys, input_precision="ieee")
        if TAIL_DIM > 0:
            tile_tail = tl.load(
                keys + cells[None, :] * HEAD_DIM + tail_dims[:, None],
                mask=is_inside[None, :] & is_tail[:, None],
                other=0.0,
            )
            scores = tl.dot(asked_tail, tile_tail, scores, input_precision="ieee")
        scores = scores * scale
        if HAS_SOFTCAP:
            # tanh; an overflow of exp2 gives 1, as it should
            scores = softcap * (1.0 - 2.0 / (1.0 + tl.exp2(scores)))
        is_seen = tokens[None, :] <= position[:, None]
        if HAS_WINDOW:
            is_seen = is_seen & (tokens[None, :] > position[:, None] - window)
        if HAS_CHUNK:
            is_seen = is_seen & (tokens[None, :] >= opening[:, None])
        scores = tl.where(is_seen, scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        # For a row that has seen nothing yet, -inf minus -inf would be NaN.
        base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        weights = tl.exp2(scores - base[:, None])
        decay = tl.exp2(peak - base)
        tile_values = tl.load(
            values + cells[:, None] * VALUE_STRIDE + value_dims[None, :],
            mask=is_inside[:, None] & is_value[None, :],
            other=0.0,
        )
        mixed = mixed * decay[:, None] + tl.dot(
            weights.to(tile_values.dtype), tile_values, input_precision="ieee"
        )
        total = total * decay + tl.sum(weights, 1)
        peak = new_peak

    if SPLITS > 1:
        cell = (row.to(tl.int64) * KV_HEADS * GROUP + head) * SPLITS + part
        tl.store(partial_peak + cell, peak, mask=is_query)
        tl.store(partial_total + cell, total, mask=is_query)
        if high > low:  # the reduction reads no values of a split that saw nothing
            tl.store(
                partial_mixed + cell[:, None] * PADDED_VALUE + value_dims[None, :],
                mixed,
                mask=is_query[:, None],
            )
    else:
        if HAS_SINKS:
            sink = tl.load(sinks + head, mask=is_query, other=0.0).to(tl.float32)
            sink *= LOG2_E
            base = tl.maximum(peak, sink)
            decay = tl.exp2(peak - base)
            total = total * decay + tl.exp2(sink - base)
            mixed = mixed * decay[:, None]
        # A padded row of a graph has no context at all; it gets zeros.
        mixed = mixed / tl.where(total == 0.0, 1.0, total)[:, None]
        place = ((begin + token).to(tl.int64) * KV_HEADS * GROUP + head) * VALUE_DIM
        tl.store(
            result + place[:, None] + value_dims[None, :],
            mixed.to(result.dtype.element_ty),
            mask=is_query[:, None] & is_value[None, :],
        )
