"""Random paged batches for tests of attention. (Not a test.)"""

from __future__ import annotations

import random

import torch

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence


def paged_batch(
    rows: list[tuple[int, int]], *, block_size: int, num_blocks: int, seed: int = 0
) -> Batch:
    """Rows of (context, new tokens), their blocks dealt at random."""
    free = list(range(num_blocks))
    random.Random(seed).shuffle(free)
    slices = []
    for context, length in rows:
        blocks = [free.pop() for _ in range(-(-context // block_size))]
        sequence = Sequence([1] * context, blocks=blocks)
        slices.append(Slice(sequence, context - length, length, True))
    return Batch.from_plan(StepPlan(tuple(slices)), block_size, torch.device("cpu"))


def filled_cache(
    shape: LayerShape, *, num_blocks: int, block_size: int, dtype: torch.dtype = torch.float32
) -> KVCache:
    """One layer of random keys and values everywhere: what is not masked shows."""
    cache = KVCache(
        [shape],
        num_blocks=num_blocks,
        block_size=block_size,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    torch.manual_seed(1)
    cache.keys[0].normal_()
    cache.values[0].normal_()
    return cache
