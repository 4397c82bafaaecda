"""Attention on an NVIDIA GPU: decode rows by our kernel, prefill rows by FlashAttention where it
can, and one call for both where FlashAttention reads block tables."""

from __future__ import annotations

import torch

from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda import flash
from llmserve.engines.batching.compute.cuda.launch import Layer, Rows
from llmserve.engines.batching.compute.cuda.paged_decode import num_splits, paged_decode
from llmserve.engines.batching.compute.cuda.paged_prefill import paged_prefill
from llmserve.engines.batching.compute.kv_cache import KVCache


class CudaAttention:
    """An `Attention`. Owned by the thread that runs the model.

    A batch of decode rows never waits for the device, so that a CUDA graph can hold it.
    `processors` are the device's multiprocessors; asked of the device if left out.
    """

    def __init__(self, device: torch.device, processors: int | None = None) -> None:
        if processors is None:
            processors = torch.cuda.get_device_properties(device).multi_processor_count
        self._processors = processors
        self._has_paged_flash = flash.paged_version(device) is not None
        self._prefill: _Prefill | None = None

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """See `Attention`. A row of no context (the padding of a graph) gets zeros."""
        where = Layer(cache.keys[layer], cache.values[layer], variant)
        query = query if query.stride(2) == 1 else query.contiguous()
        if self._has_paged_flash and flash.takes(query, variant):
            return flash.paged_flash(_all_rows(batch, query), where, batch.max_context)
        parts = []
        if batch.num_decode:
            rows = _decode_rows(batch, query)
            splits = num_splits(rows.num_rows, where.kv_heads, self._processors)
            parts.append(paged_decode(rows, where, splits=splits))
        if batch.num_decode < batch.context_lengths.shape[0]:
            if self._prefill is None or self._prefill.batch is not batch:
                self._prefill = _Prefill(batch)
            parts.append(self._prefill.attend(query[batch.num_decode :], where))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Prefill:
    """The prefill rows of one batch; what all layers share is made once."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        first = batch.num_decode
        self._query_starts = batch.query_starts[first:] - first
        self._context_lengths = batch.context_lengths[first:]
        self._block_tables = batch.block_tables[first:]
        self._gather: flash.Gather | None = None

    def attend(self, query: torch.Tensor, layer: Layer) -> torch.Tensor:
        rows = Rows(
            query=query,
            query_starts=self._query_starts,
            context_lengths=self._context_lengths,
            block_tables=self._block_tables,
            max_query=self.batch.max_query,
        )
        if not flash.takes(query, layer.variant):
            return paged_prefill(rows, layer)
        if self._gather is None:
            self._gather = flash.Gather.of(rows, layer.keys.shape[2])
        if not self._gather.fits(layer):
            return paged_prefill(rows, layer)
        return flash.gathered_flash(rows, layer, self._gather, self.batch.max_context)


def _all_rows(batch: Batch, query: torch.Tensor) -> Rows:
    return Rows(
        query, batch.query_starts, batch.context_lengths, batch.block_tables, batch.max_query
    )


def _decode_rows(batch: Batch, query: torch.Tensor) -> Rows:
    count = batch.num_decode
    return Rows(
        query[:count],
        batch.query_starts[: count + 1],
        batch.context_lengths[:count],
        batch.block_tables[:count],
        1,
    )
