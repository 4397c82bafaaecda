"""Compares an attention backend with plain torch on a few steps of three sequences.

The results of every layer are compared separately, from the same queries, keys and values. Were
only logits compared, rounding would send some tokens of a mixture of experts to other experts.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from llmserve.engines.batching.compute.attention import Attention, TorchAttention, Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.state_pool import StatePool
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.weights.agreement import agree
from llmserve.engines.weights.loading import LoadedModel

LENGTHS: Final = (3, 37, 50)
"""Tokens of each sequence: less than a block, and a few blocks; `max_context` bounds them."""


class Trial:
    """Prefill, whole and in pieces, then decode beside a piece, then decode alone."""

    def __init__(self, loaded: LoadedModel, shape: CacheShape, block_size: int) -> None:
        self.block_size = block_size
        self._loaded = loaded
        self._shape = shape
        vocab = loaded.model.get_input_embeddings().num_embeddings
        self._sequences: list[Sequence] = []
        block = 1
        for number, length in enumerate(min(n, loaded.max_context) for n in LENGTHS):
            count = -(-length // block_size)
            ids = [(7 * (100 * number + token) + 3) % vocab for token in range(length)]
            # In descending order: a backend that ignores the table gives wrong results.
            blocks = list(range(block + count - 1, block - 1, -1))
            self._sequences.append(Sequence(ids, blocks=blocks, state=number))
            block += count
        self._num_blocks = block

    @torch.inference_mode()
    def is_right(self, attention: Attention, kind: type[KVCache]) -> bool:
        """Whether attention over such a cache gives what plain torch gives, up to rounding.

        Raises:
            Exception: whatever attention or the cache raises.
        """
        pool = self._shape.pool(len(self._sequences), len(self._sequences), self._loaded.device)
        cache = _TwinCache(self._cache(KVCache), self._cache(kind), pool)
        twins = _TwinAttention(attention, self._loaded.model.dtype)
        forward = TransformersForward(self._loaded.model, twins, self._shape.states)
        try:
            for plan in self._plans():
                device = self._loaded.device
                batch = Batch.from_plan(plan, self.block_size, device, pool)
                forward(batch, cache)
                cache.commit(batch.states)
        finally:
            forward.close()
        return twins.is_right

    def _cache(self, kind: type[KVCache]) -> KVCache:
        return kind(
            self._shape.layers,
            num_blocks=self._num_blocks,
            block_size=self.block_size,
            dtype=self._loaded.model.dtype,
            device=self._loaded.device,
        )

    def _plans(self) -> list[StepPlan]:
        steps: list[list[Slice]] = [[], [], []]
        for number, sequence in enumerate(self._sequences):
            whole = sequence.num_tokens
            first = max(1, whole - 2 if number < 2 else whole // 2)
            second = max(first, whole - 1)
            for step, (start, end) in enumerate(((0, first), (first, second), (second, whole))):
                if end > start:
                    steps[step].append(Slice(sequence, start, end - start, is_sampled=True))
        return [
            StepPlan(tuple(sorted(parts, key=lambda part: part.length > 1)))
            for parts in steps
            if parts
        ]


class _TwinCache(KVCache):
    """Writes to a plain cache and to the one on trial."""

    def __init__(self, plain: KVCache, tried: KVCache, states: StatePool | None) -> None:
        self.states = states
        self.num_blocks = plain.num_blocks
        self.block_size = plain.block_size
        self.keys = plain.keys
        self.values = plain.values
        self.layers = plain.layers
        self.tried = tried

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        super().write(layer, slots, keys, values)
        self.tried.write(layer, slots, keys, values)


class _TwinAttention:
    """Computes both by plain torch, whose result is returned, and by the attention on trial."""

    def __init__(self, tried: Attention, dtype: torch.dtype) -> None:
        self._tried = tried
        self._plain = TorchAttention()
        self._dtype = dtype
        self.is_right = True

    def attend(
        self, cache: Any, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        expected = self._plain.attend(cache, layer, batch, query, variant)
        actual = self._tried.attend(cache.tried, layer, batch, query, variant)
        is_same = agree(expected.float(), actual.float(), self._dtype)
        self.is_right = self.is_right and is_same
        return expected
