"""Runs a model on the paged cache as the engine does, and compares it with the model's own code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch

from llmserve.engines.batching.compute.attention import TorchAttention
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.miniature import caches
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.weights.agreement import agree, probe

BLOCK_SIZE: Final = 8
NUM_DECODED: Final = 6


@torch.inference_mode()
def agrees_on_paged_cache(model: Any, shape: CacheShape, length: int) -> bool:
    """Whether two rows of so many tokens, prefilled in pieces beside each other and then decoded,
    get the logits that the model's own attention and cache give them, up to rounding.

    The model is in float64: rounding depends on how the tokens are divided, and with less precision
    a mixture of experts would choose other experts.
    """
    rows = probe(model, 2 * length).view(2, length)
    expected = _own_logits(model, rows)
    blocks = -(-length // BLOCK_SIZE)
    cache = KVCache(
        shape.layers,
        num_blocks=2 * blocks,
        block_size=BLOCK_SIZE,
        dtype=model.dtype,
        device=rows.device,
        states=shape.pool(2, 2, rows.device),
    )
    # No row's blocks are in order or adjacent.
    sequences = [
        Sequence(row.tolist(), blocks=list(range(2 * blocks - 1 - number, -1, -2)), state=number)
        for number, row in enumerate(rows)
    ]
    forward = TransformersForward(model, TorchAttention(), shape.states)
    try:
        return all(_agrees(forward, cache, expected, sequences, step) for step in _steps(length))
    finally:
        forward.close()


def _own_logits(model: Any, rows: torch.Tensor) -> torch.Tensor:
    """Logits (num_rows, length, vocab) of token ids (num_rows, length). The last tokens are decoded
    one by one, as in `generate`: some models apply their window only then."""
    length = rows.shape[1]
    num_prefilled = max(1, length - NUM_DECODED)
    told = model(input_ids=rows[:, :num_prefilled], use_cache=num_prefilled < length)
    parts = [told.logits]
    for place in range(num_prefilled, length):
        told = model(
            input_ids=rows[:, place : place + 1],
            position_ids=torch.full((len(rows), 1), place, device=rows.device),
            use_cache=True,
            **caches(told),
        )
        parts.append(told.logits)
    return torch.cat(parts, 1)


def _agrees(
    forward: TransformersForward,
    cache: KVCache,
    expected: torch.Tensor,  # (num_rows, length, vocab)
    sequences: list[Sequence],
    step: list[tuple[int, int, int]],
) -> bool:
    slices = [Slice(sequences[row], start, end - start, True) for row, start, end in step]
    plan = StepPlan(tuple(slices))
    batch = Batch.from_plan(plan, cache.block_size, expected.device, cache.states)
    everything = torch.arange(plan.num_tokens, device=expected.device)
    actual = forward(replace(batch, sampled=everything), cache)
    cache.commit(batch.states)
    wanted = torch.cat([expected[row, start:end] for row, start, end in step])
    return agree(wanted.float(), actual, actual.dtype)


def _steps(length: int) -> list[list[tuple[int, int, int]]]:
    """Steps of (row, start, end): a prompt in pieces, alone and beside another one's first piece,
    then a token of it beside the other's second piece."""
    half, last = length // 2, length - 1
    if half == last or half == 0:
        return [[(0, 0, length), (1, 0, length)]]
    return [
        [(0, 0, half)],
        [(0, half, last), (1, 0, half)],
        [(0, last, length), (1, half, length)],
    ]
