"""Decode whose rows have adapters, as CUDA graphs: each is recorded when a step first needs it, as
a model without adapters must not pay for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from loguru import logger

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.adapters import CudaAdapters
from llmserve.engines.batching.compute.cuda.decode_buffers import Bucket, DecodeBuffers, buckets
from llmserve.engines.batching.compute.cuda.graphs import GraphRecorder
from llmserve.engines.batching.compute.cuda.low_rank_table import NO_SLOT
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.frames import forget_frames


class AdapterGraphs:
    """A `Forward`: steps without adapters go to `plain`, those with prompts, or that no graph can
    hold, to `eager`. The logits it returns are overwritten by its next call."""

    def __init__(
        self,
        plain: Forward,
        eager: Forward,
        adapters: CudaAdapters,
        cache: KVCache,
        recorder: GraphRecorder,
        *,
        max_rows: int,
        max_context: int,
    ) -> None:
        self._plain = plain
        self._eager = eager
        self._adapters = adapters
        self._cache = cache
        self._recorder = recorder
        max_blocks = -(-max_context // cache.block_size)
        self._buckets = buckets(max_rows, max_blocks * cache.block_size)
        self._max_blocks = max_blocks
        self._buffers: DecodeBuffers | None = None
        self._slots = torch.empty(0, dtype=torch.int32)
        self._replays: dict[Bucket, Callable[[], None]] = {}
        self._logits: torch.Tensor | None = None
        self._version = adapters.version
        self._is_refused = False

    def __call__(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        """See `Forward`."""
        if not batch.segments:
            return self._plain(batch, cache)
        if self._version != self._adapters.version:
            self._replays.clear()
            self._version = self._adapters.version
        buffers = self._open_buffers()
        bucket = None if self._is_refused or cache is not self._cache else buffers.find(batch)
        if bucket is None:
            return self._eager(batch, cache)
        buffers.load(batch, bucket)
        rows = batch.token_ids.shape[0]
        slots = self._adapters.slots(batch.segments, rows)
        padded = slots + [NO_SLOT] * (bucket.rows - rows)
        self._slots[: bucket.rows].copy_(torch.tensor(padded, dtype=torch.int32))
        if bucket not in self._replays and not self._record(buffers, bucket):
            return self._eager(batch, cache)
        self._replays[bucket]()
        assert self._logits is not None, "graphs write logits"
        return self._logits[: batch.sampled.shape[0]]

    def _open_buffers(self) -> DecodeBuffers:
        if self._buffers is None:
            device = self._cache.keys[0].device
            has_states = self._cache.states is not None
            self._buffers = DecodeBuffers(
                self._buckets, self._max_blocks, device, has_states=has_states
            )
            rows = max(bucket.rows for bucket in self._buckets)
            self._slots = torch.full((rows,), NO_SLOT, dtype=torch.int32, device=device)
        return self._buffers

    def _record(self, buffers: DecodeBuffers, bucket: Bucket) -> bool:
        try:
            self._replays[bucket] = self._recorder.record(partial(self._step, buffers, bucket))
        # The model's code may raise anything while it is recorded; without, it runs.
        except Exception as error:
            logger.warning("steps with adapters run without CUDA graphs: {}", error)
            forget_frames(error)
            self._replays.clear()
            self._is_refused = True
            return False
        return True

    def _step(self, buffers: DecodeBuffers, bucket: Bucket) -> None:
        with self._adapters.by_row(self._slots[: bucket.rows]):
            logits = self._eager(buffers.view(bucket), self._cache)
        if self._logits is None:
            most = max(each.rows for each in self._buckets)
            self._logits = torch.empty(most, logits.shape[1], device=logits.device)
        self._logits[: logits.shape[0]].copy_(logits)
