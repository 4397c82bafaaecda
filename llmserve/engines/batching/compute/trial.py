"""A short life of three sequences, computed to compare two ways of computing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from llmserve.engines.agreement import agree
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence as TokenSequence
from llmserve.engines.loading import LoadedModel

LENGTHS: Final = (3, 37, 50)
"""Tokens of each sequence: less than a block, and a few blocks; all are cut by `max_context`."""


class Trial:
    """Prompts whole and in pieces, then decode beside a piece, then decode alone."""

    def __init__(self, loaded: LoadedModel, layers: Sequence[LayerShape], block_size: int) -> None:
        self._loaded = loaded
        self._layers = layers
        self.block_size = block_size
        vocab = loaded.model.get_input_embeddings().num_embeddings
        self._sequences: list[TokenSequence] = []
        block = 1
        for number, length in enumerate(min(n, loaded.max_context) for n in LENGTHS):
            count = -(-length // block_size)
            ids = [(7 * (100 * number + token) + 3) % vocab for token in range(length)]
            # From the last block down: what reads them in order is wrong.
            blocks = list(range(block + count - 1, block - 1, -1))
            self._sequences.append(TokenSequence(ids, length, blocks=blocks))
            block += count
        self._num_blocks = block

    @torch.inference_mode()
    def logits(self, forward: Forward, kind: type[KVCache]) -> list[torch.Tensor]:
        """Of every step, in float32."""
        cache = kind(
            self._layers,
            num_blocks=self._num_blocks,
            block_size=self.block_size,
            dtype=self._loaded.model.dtype,
            device=self._loaded.device,
        )
        batches = (
            Batch.from_plan(plan, self.block_size, self._loaded.device) for plan in self._plans()
        )
        return [forward(batch, cache).float().clone() for batch in batches]

    def agree(self, expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor]) -> bool:
        """Whether all steps differ by rounding only."""
        dtype = self._loaded.model.dtype
        return all(agree(*pair, dtype) for pair in zip(expected, actual, strict=True))

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
