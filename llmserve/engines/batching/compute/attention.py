"""Attention over the paged cache: the protocol of all backends, and the one in plain torch, against
which every other is tested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol

import torch

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.latent import Latent

MAX_SCORES: Final = 2**26
"""Scores that are computed at once, 256 MiB: all of a long prompt's would take more memory than the
model."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How a layer attends.

    Attributes:
        scale: factor of the scores.
        window: a token sees itself and the `window - 1` before it; `None` for all.
        chunk: a token sees only those of its own chunk, of which a context has one after another
            from its beginning; `None` for all.
        softcap: scores become softcap × tanh(score / softcap).
        sinks: (query_heads,) logits that take part in the softmax but have no value.
        latent: what makes keys and values of what is stored, if that is latents.
    """

    scale: float
    window: int | None = None
    chunk: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None
    latent: Latent | None = None


class Attention(Protocol):
    """Causal attention of a batch's new tokens over their rows' blocks."""

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """Query (num_tokens, query_heads, head_dim); the result is as wide as the layer's values.

        The batch's own keys and values are in the cache already. Query head h reads KV head
        h // (query_heads / kv_heads).
        """
        ...


class TorchAttention:
    """Row after row in float32, or in float64 if the model is; slow and plain. Latents are made
    keys and values of."""

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        starts = batch.query_starts.tolist()
        parts = []
        for row, context in enumerate(batch.context_lengths.tolist()):
            begin, end = starts[row], starts[row + 1]
            blocks = batch.block_tables[row, : -(-context // cache.block_size)].long()
            # (kv_heads, context, head_dim)
            keys = cache.keys[layer][blocks].transpose(0, 1).flatten(1, 2)[:, :context]
            if variant.latent is not None:
                keys, values = variant.latent.expand(keys[0])
            else:
                values = cache.values[layer][blocks].transpose(0, 1).flatten(1, 2)[:, :context]
            parts.append(attend_row(query[begin:end], keys, values, variant))
        return torch.cat(parts)


def absorbed(
    attention: Attention,
    cache: KVCache,
    layer: int,
    batch: Batch,
    query: torch.Tensor,
    variant: Variant,
) -> torch.Tensor:
    """Attention to latents as they are stored, as one KV head for all query heads."""
    latent = variant.latent
    assert latent is not None, "only latents are absorbed"
    plain = replace(variant, latent=None)
    return latent.project(attention.attend(cache, layer, batch, latent.absorb(query), plain))


def attend_row(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, variant: Variant
) -> torch.Tensor:
    """One row: query (length, query_heads, head_dim) are the last `length` tokens of the context,
    keys (kv_heads, context, head_dim), values (kv_heads, context, value_dim)."""
    length, query_heads, _ = query.shape
    context = keys.shape[1]
    piece = max(1, MAX_SCORES // max(1, query_heads * context))
    if piece >= length:
        return _attend_piece(query, keys, values, variant)
    result = query.new_empty((length, query_heads, values.shape[-1]))
    for begin in range(0, length, piece):
        end = min(length, begin + piece)
        seen = context - length + end  # what comes after the piece is hidden from it
        result[begin:end] = _attend_piece(
            query[begin:end], keys[:, :seen], values[:, :seen], variant
        )
    return result


def _attend_piece(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, variant: Variant
) -> torch.Tensor:
    """As `attend_row`, all at once."""
    length, query_heads, head_dim = query.shape
    kv_heads, context, _ = keys.shape
    group = query_heads // kv_heads
    exact = torch.promote_types(query.dtype, torch.float32)
    # (kv_heads, group × length, head_dim)
    folded = query.transpose(0, 1).reshape(kv_heads, group * length, head_dim).to(exact)
    scores = torch.bmm(folded, keys.to(exact).transpose(1, 2)) * variant.scale
    if variant.softcap is not None:
        scores = torch.tanh(scores / variant.softcap) * variant.softcap
    scores = scores.view(query_heads, length, context)
    scores.masked_fill_(~visible(length, context, variant, query.device), -torch.inf)
    if variant.sinks is not None:
        sinks = variant.sinks.to(exact).view(-1, 1, 1).expand(-1, length, 1)
        weights = torch.cat((scores, sinks), -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    weights = weights.reshape(kv_heads, group * length, context)
    mixed = torch.bmm(weights, values.to(exact)).view(query_heads, length, values.shape[-1])
    return mixed.transpose(0, 1).to(query.dtype)


def visible(length: int, context: int, variant: Variant, device: torch.device) -> torch.Tensor:
    """(length, context): which tokens each of the last `length` ones of a context sees."""
    newest = torch.arange(context - length, context, device=device)[:, None]
    tokens = torch.arange(context, device=device)[None, :]
    seen = tokens <= newest
    if variant.window is not None:
        seen &= tokens > newest - variant.window
    if variant.chunk is not None:
        seen &= tokens >= newest - newest % variant.chunk
    return seen
