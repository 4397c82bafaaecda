"""The arguments of the paged kernel, for decode and prefill alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.cuda.paged_kernel import LOG2_E, padded
from llmserve.engines.batching.compute.cuda.tiling import Tiling
from llmserve.engines.batching.compute.kv_cache import LayerShape


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a batch whose tokens are contiguous.

    Attributes:
        query: (num_tokens, query_heads, head_dim), the last dimension contiguous.
        query_starts: (num_rows + 1,) int32, into `query`.
        context_lengths: (num_rows,) int32; 0 for a padded row, whose result is zero.
        block_tables: (num_rows, max_blocks) int32.
        max_query: tokens of the longest row.
    """

    query: torch.Tensor
    query_starts: torch.Tensor
    context_lengths: torch.Tensor
    block_tables: torch.Tensor
    max_query: int

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self.context_lengths.shape[0]


@dataclass(frozen=True, slots=True)
class CachedLayer:
    """One layer's cache, (num_blocks, kv_heads, block_size, head_dim), and how it attends. Values
    may be of another width than keys; those of latents are the beginning of their keys."""

    keys: torch.Tensor
    values: torch.Tensor
    variant: Variant
    has_latents: bool = False

    @property
    def kv_heads(self) -> int:
        """How many heads the cache has."""
        return self.keys.shape[1]

    @property
    def is_even(self) -> bool:
        """Whether keys and values have the same width."""
        return self.keys.shape[3] == self.values.shape[3]

    @property
    def widest(self) -> int:
        """Numbers of a key or a value, whichever has more."""
        return max(self.keys.shape[3], self.values.shape[3])

    @property
    def expanded(self) -> LayerShape:
        """Its keys and values, which are made of the latents if it stores those."""
        latent = self.variant.latent
        if latent is not None:
            return latent.expanded_from(self.keys.shape[3])
        return LayerShape(self.kv_heads, self.keys.shape[3], self.values.shape[3])

    def stored(self, query: torch.Tensor) -> tuple[torch.Tensor, CachedLayer]:
        """A query and the layer as kernels read it: of latents, one KV head for all queries."""
        latent = self.variant.latent
        if latent is None:
            return query, self
        return latent.absorb(query), replace(self, variant=replace(self.variant, latent=None))

    def project(self, result: torch.Tensor) -> torch.Tensor:
        """What kernels made of `stored`, as the model wants it."""
        latent = self.variant.latent
        return result if latent is None else latent.project(result)

    def result_for(self, query: torch.Tensor) -> torch.Tensor:
        """Memory for the result of a query, (num_tokens, query_heads, value_dim)."""
        return query.new_empty((*query.shape[:2], self.values.shape[3]))

    def group(self, query: torch.Tensor) -> int:
        """How many query heads read the same KV head."""
        return query.shape[1] // self.kv_heads


def kernel_arguments(rows: Rows, layer: CachedLayer, tiling: Tiling) -> dict[str, Any]:
    """The arguments that decode and prefill have in common."""
    variant, head_dim, value_dim = layer.variant, layer.keys.shape[3], layer.values.shape[3]
    # Latents: what is rotated comes last, and the rest is as wide as a value.
    tail = head_dim - value_dim if layer.has_latents else 0
    softcap = variant.softcap
    return {
        "query": rows.query,
        "keys": layer.keys,
        "values": layer.values,
        # Without sinks any aligned tensor will do: it is not read.
        "sinks": layer.keys if variant.sinks is None else variant.sinks,
        "query_starts": rows.query_starts,
        "context_lengths": rows.context_lengths,
        "block_tables": rows.block_tables,
        # tanh(x) takes e^2x, everything else e^x
        "scale": variant.scale * LOG2_E.value * (1.0 if softcap is None else 2.0 / softcap),
        "softcap": 1.0 if softcap is None else softcap * LOG2_E.value,
        "window": 0 if variant.window is None else variant.window,
        "chunk": 0 if variant.chunk is None else variant.chunk,
        "query_token_stride": rows.query.stride(0),
        "query_head_stride": rows.query.stride(1),
        "table_stride": rows.block_tables.stride(0),
        "KV_HEADS": layer.kv_heads,
        "GROUP": layer.group(rows.query),
        "HEAD_DIM": head_dim,
        "PADDED_DIM": padded(head_dim - tail),
        "TAIL_DIM": tail,
        "PADDED_TAIL": padded(tail) if tail else 0,
        "VALUE_DIM": value_dim,
        "VALUE_STRIDE": layer.values.stride(2),
        "PADDED_VALUE": padded(value_dim),
        "BLOCK_SIZE": layer.keys.shape[2],
        "ROWS": tiling.rows,
        "TILE": tiling.tokens,
        "HAS_WINDOW": variant.window is not None,
        "HAS_CHUNK": variant.chunk is not None,
        "HAS_SOFTCAP": softcap is not None,
        "HAS_SINKS": variant.sinks is not None,
        "num_warps": tiling.warps,
        "num_stages": tiling.stages,
    }
