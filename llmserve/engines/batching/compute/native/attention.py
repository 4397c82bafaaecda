"""Attention by the kernels, for models that the native decoder does not support."""

from __future__ import annotations

import torch

from llmserve.engines.batching.compute.attention import Attention, Variant, absorbed
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.native.kernels import LANES, AttentionCall, Kernels


class NativeAttention:
    """An `Attention` over a bfloat16 cache on the CPU. Layers with capped scores, sinks, chunks, or
    keys and values of different widths are left to `otherwise`. One thread calls it at a time."""

    def __init__(self, kernels: Kernels, otherwise: Attention) -> None:
        self._kernels = kernels
        self._otherwise = otherwise
        self._uses_tiles = kernels.has_tiles()
        self._workspace = kernels.attention_workspace()

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """See `Attention`.

        Raises:
            ValueError: the batch points outside of the cache; nothing was computed.
            MemoryError: nothing was computed.
        """
        if variant.latent is not None:
            return absorbed(self, cache, layer, batch, query, variant)
        keys, values = cache.keys[layer], cache.values[layer]
        if not _suits(query, keys, values, variant):
            return self._otherwise.attend(cache, layer, batch, query, variant)
        num_blocks, kv_heads, block_size, head_dim = keys.shape
        queries = query.contiguous()
        out = torch.empty_like(queries)
        call = AttentionCall(
            num_tokens=len(queries),
            num_rows=len(batch.context_lengths),
            max_blocks=batch.block_tables.shape[1],
            num_blocks=num_blocks,
            block_size=block_size,
            query_starts=batch.query_starts.data_ptr(),
            context_lengths=batch.context_lengths.data_ptr(),
            block_tables=batch.block_tables.data_ptr(),
            query_heads=queries.shape[1],
            kv_heads=kv_heads,
            head_dim=head_dim,
            window=variant.window or 0,
            threads=torch.get_num_threads(),
            queries=queries.data_ptr(),
            keys=keys.data_ptr(),
            # Of latents: the keys, of which the values are the beginning.
            values=values.data_ptr(),
            out=out.data_ptr(),
            scale=variant.scale,
            tiles=int(self._uses_tiles),
        )
        self._kernels.attend(self._workspace, call)
        return out[..., : values.shape[-1]]


def _suits(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, variant: Variant) -> bool:
    is_plain = variant.softcap is None and variant.sinks is None and variant.chunk is None
    # Maxima are taken before scores are scaled.
    is_plain = is_plain and variant.scale > 0.0
    has_dtype = query.dtype == keys.dtype == torch.bfloat16
    has_place = query.device.type == keys.device.type == "cpu" and keys.is_contiguous()
    has_shape = query.shape[-1] == keys.shape[-1] and keys.shape[-1] % LANES == 0
    is_even = keys.shape[-1] == values.shape[-1] or keys.data_ptr() == values.data_ptr()
    return is_plain and has_dtype and has_place and has_shape and is_even
