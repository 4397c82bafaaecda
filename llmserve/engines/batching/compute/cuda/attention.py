"""Attention on an NVIDIA GPU: decode rows by our kernel, prefill rows by FlashAttention if it can
compute them; both in one call if FlashAttention reads block tables."""

from __future__ import annotations

from typing import NamedTuple

import torch

from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.gather import Gather, fits
from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows
from llmserve.engines.batching.compute.cuda.paged_decode import paged_decode
from llmserve.engines.batching.compute.cuda.paged_prefill import paged_prefill
from llmserve.engines.batching.compute.cuda.splits import all_splits, num_splits
from llmserve.engines.batching.compute.cuda.varlen import Varlen
from llmserve.engines.batching.compute.kv_cache import KVCache


class Chip(NamedTuple):
    """What kernels are tuned for: how many multiprocessors, and the major compute capability."""

    processors: int
    capability: int

    @classmethod
    def of(cls, device: torch.device) -> Chip:
        """Of a GPU."""
        about = torch.cuda.get_device_properties(device)
        return cls(about.multi_processor_count, about.major)


class _Kind(NamedTuple):
    """Everything for which Triton compiles a kernel of its own."""

    query_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    has_latents: bool
    has_window: bool
    has_chunk: bool
    has_softcap: bool
    has_sinks: bool


class CudaAttention:
    """An `Attention`. Owned by the thread that runs the model.

    Decode rows never wait for the device, so that they can be captured in a CUDA graph. `varlen` is
    FlashAttention, if it may be used, and `is_paged` tells whether it reads block tables;
    `used_varlen` tells whether it computed any layer so far. The device is asked for its `chip` if
    none is given.
    """

    def __init__(
        self,
        device: torch.device,
        varlen: Varlen | None = None,
        *,
        is_paged: bool = False,
        chip: Chip | None = None,
    ) -> None:
        self._chip = chip or Chip.of(device)
        self._varlen = varlen
        self._is_paged = is_paged
        self.used_varlen = False
        self._prefill: _Prefill | None = None
        # What `compile_all` has to compile for; `None` after it.
        self._seen: dict[_Kind, tuple[CachedLayer, torch.Tensor]] | None = {}

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """See `Attention`. A row without context (the padding of a graph) gets zeros."""
        has_latents = cache.layers[layer].expanded is not None
        where = CachedLayer(cache.keys[layer], cache.values[layer], variant, has_latents)
        query = query if query.stride(2) == 1 else query.contiguous()
        if self._seen is not None:
            one, stored = where.stored(query[:1])
            self._seen.setdefault(_kind(one, stored), (stored, one))
        varlen = self._varlen
        if varlen is not None and (_has_chunks(batch, variant) or not varlen.takes(query, where)):
            varlen = None
        self.used_varlen = self.used_varlen or varlen is not None
        if varlen is not None and self._is_paged and where.is_even and not has_latents:
            return varlen.paged(_all_rows(batch, query), where, batch.max_context)
        parts = []
        if batch.num_decode:
            own, stored = where.stored(query[: batch.num_decode])
            processors, capability = self._chip
            splits = num_splits(batch.num_decode, where.kv_heads, processors, batch.max_context)
            mixed = paged_decode(_decode_rows(batch, own), stored, capability, splits=splits)
            parts.append(where.project(mixed))
        if batch.num_decode < batch.context_lengths.shape[0]:
            if self._prefill is None or self._prefill.batch is not batch:
                self._prefill = _Prefill(batch)
            own = query[batch.num_decode :]
            parts.append(self._prefill.attend(own, where, self._chip.capability, varlen))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @property
    def has_varlen(self) -> bool:
        """Whether it may use FlashAttention."""
        return self._varlen is not None

    @torch.inference_mode()
    def compile_all(self, max_rows: int, max_context: int) -> None:
        """Compile every kernel that batches of up to `max_rows` rows of up to `max_context` tokens
        may need, for all layers that attended so far; else a batch would wait for the compiler."""
        seen, self._seen = self._seen or {}, None
        for layer, query in seen.values():
            # A row without context reads nothing from the cache.
            nothing = torch.zeros(1, dtype=torch.int32, device=query.device)
            ends = torch.arange(2, dtype=torch.int32, device=query.device)
            rows = Rows(query.clone(), ends, nothing, nothing[None], 1)
            processors, capability = self._chip
            for splits in all_splits(max_rows, layer.kv_heads, processors, max_context):
                paged_decode(rows, layer, capability, splits=splits)
            paged_prefill(rows, layer, capability)


class _Prefill:
    """The prefill rows of one batch; what all layers share is computed once."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        first = batch.num_decode
        self._query_starts = batch.query_starts[first:] - first
        self._context_lengths = batch.context_lengths[first:]
        self._block_tables = batch.block_tables[first:]
        self._gather: Gather | None = None

    def attend(
        self, query: torch.Tensor, layer: CachedLayer, capability: int, varlen: Varlen | None
    ) -> torch.Tensor:
        num_context, dtype = self.batch.prefill_context, layer.keys.dtype
        is_copied = num_context is not None and fits(num_context, layer.expanded, dtype)
        if varlen is None or num_context is None or not is_copied:
            own, stored = layer.stored(query)
            return layer.project(paged_prefill(self._rows(own), stored, capability))
        rows = self._rows(query)
        if self._gather is None:
            self._gather = Gather.of(rows, num_context, layer.keys.shape[2])
        return varlen.gathered(rows, layer, self._gather, self.batch.max_context)

    def _rows(self, query: torch.Tensor) -> Rows:
        return Rows(
            query=query,
            query_starts=self._query_starts,
            context_lengths=self._context_lengths,
            block_tables=self._block_tables,
            max_query=self.batch.max_query,
        )


def _has_chunks(batch: Batch, variant: Variant) -> bool:
    """Whether a context may have more than one chunk. In a graph with prompts, the longest one is
    not known."""
    is_known = batch.prefill_context is not None
    return variant.chunk is not None and not (is_known and batch.max_context <= variant.chunk)


def _kind(query: torch.Tensor, layer: CachedLayer) -> _Kind:
    variant = layer.variant
    return _Kind(
        query.shape[1],
        layer.kv_heads,
        query.shape[2],
        layer.values.shape[3],
        layer.has_latents,
        variant.window is not None,
        variant.chunk is not None,
        variant.softcap is not None,
        variant.sinks is not None,
    )


def _all_rows(batch: Batch, query: torch.Tensor) -> Rows:
    return Rows(
        query, batch.query_starts, batch.context_lengths, batch.block_tables, batch.max_query
    )


def _decode_rows(batch: Batch, query: torch.Tensor) -> Rows:
    count = batch.num_decode
    return Rows(
        query,
        batch.query_starts[: count + 1],
        batch.context_lengths[:count],
        batch.block_tables[:count],
        1,
    )
