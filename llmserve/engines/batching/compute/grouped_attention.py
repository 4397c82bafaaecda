"""Attention in torch's own operations, made for the CPU: all decode rows at once.

SDPA is slow there with one query row; folding the query heads of a KV head together makes one
matrix product of each group, over keys that were gathered into one tensor.
"""

from __future__ import annotations

from typing import Final

import torch

from llmserve.engines.batching.compute.attention import Variant, absorbed, attend_row
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache

MAX_GATHERED_BYTES: Final = 2**28
"""Keys and values that are copied at once; those of many long rows would fill the memory."""


class GroupedAttention:
    """Equal to `TorchAttention`."""

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        if variant.latent is not None:
            return absorbed(self, cache, layer, batch, query, variant)
        count = batch.num_decode
        at_once = rows_at_once(cache, layer, batch.max_context)
        parts = [
            _decode(cache, layer, batch, slice(begin, min(begin + at_once, count)), query, variant)
            for begin in range(0, count, at_once)
        ]
        starts = batch.query_starts.tolist()
        contexts = batch.context_lengths.tolist()
        for row in range(count, len(contexts)):
            context = contexts[row]
            blocks = batch.block_tables[row, : -(-context // cache.block_size)].long()
            keys, values = (
                cells.transpose(0, 1).flatten(1, 2)[:, :context]
                for cells in _gathered(cache, layer, blocks)
            )
            parts.append(attend_row(query[starts[row] : starts[row + 1]], keys, values, variant))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def rows_at_once(cache: KVCache, layer: int, max_context: int) -> int:
    """How many decode rows, of up to so many tokens each, are computed together."""
    token_bytes = sum(cells[layer][0, :, 0].nbytes for cells in (cache.keys, cache.values))
    return max(1, MAX_GATHERED_BYTES // max(1, token_bytes * max_context))


def _gathered(
    cache: KVCache, layer: int, blocks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = cache.keys[layer][blocks], cache.values[layer]
    if cache.layers[layer].expanded is not None:  # they are copied already
        return keys, keys[..., : values.shape[-1]]
    return keys, values[blocks]


def _decode(
    cache: KVCache, layer: int, batch: Batch, own: slice, query: torch.Tensor, variant: Variant
) -> torch.Tensor:
    """Rows `own` of one token each; the result is (num_rows, query_heads, value_dim)."""
    query = query[own]
    rows, query_heads, head_dim = query.shape
    lengths = batch.context_lengths[own, None].long()
    blocks = batch.block_tables[own, : -(-int(lengths.max()) // cache.block_size)].long()
    # (num_rows, kv_heads, context, width), padded to the longest context of these rows
    keys, values = (
        cells.transpose(1, 2).flatten(2, 3) for cells in _gathered(cache, layer, blocks)
    )
    kv_heads, context = keys.shape[1], keys.shape[2]
    folded = query.view(rows, kv_heads, query_heads // kv_heads, head_dim)
    scores = (folded @ keys.transpose(2, 3)).float() * variant.scale
    if variant.softcap is not None:
        scores = torch.tanh(scores / variant.softcap) * variant.softcap
    tokens = torch.arange(context, device=query.device)[None]
    hidden = tokens >= lengths
    if variant.window is not None:
        hidden |= tokens < lengths - variant.window
    if variant.chunk is not None:
        newest = lengths - 1
        hidden |= tokens < newest - newest % variant.chunk
    scores.masked_fill_(hidden[:, None, None], -torch.inf)
    if variant.sinks is not None:
        sinks = variant.sinks.float().view(1, kv_heads, -1, 1).expand(rows, -1, -1, -1)
        weights = torch.cat((scores, sinks), -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    return (weights.to(values.dtype) @ values).view(rows, query_heads, values.shape[-1])
