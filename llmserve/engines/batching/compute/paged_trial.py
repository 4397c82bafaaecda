"""Runs a model on the paged cache as the engine does, and compares it with the model's own code."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
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
"""More than the `DISTANCES` of a small copy: a token is decoded at every place in its chunks."""

Step = list[tuple[int, int, int]]
"""Of each sequence that it computes: its number, and where its tokens start and end."""


def agrees_on_paged_cache(model: Any, shape: CacheShape, length: int) -> bool:
    """Whether sequences of up to so many tokens get the logits that the model's own attention and
    cache give them, up to rounding.

    The model is in float64: rounding depends on how the tokens are divided, and with less precision
    a mixture of experts would choose other experts.
    """
    return all(
        agree(expected.float(), actual, actual.dtype)
        for expected, actual in on_paged_cache(model, shape, length, NUM_DECODED)
    )


@torch.inference_mode()
def on_paged_cache(
    model: Any, shape: CacheShape, length: int, num_decoded: int
) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
    """Compute three sequences as the engine would, step by step. Yields each step's logits,
    (num_tokens, vocab): those of the model's own attention and cache, and those of the paged one.

    The first is read in pieces, then decoded while the second joins, piece by piece; it leaves, and
    a third, which begins like the second, takes over its blocks.
    """
    rows = _rows(model, length)
    first, second = (len(row) for row in rows)
    num_decoded = min(num_decoded, length - 1)
    own = [_own_logits(model, row[None], n) for row, n in zip(rows, (num_decoded, 0), strict=True)]
    sequences = _sequences([row.tolist() for row in rows])
    cache = KVCache(
        shape.layers,
        num_blocks=sum(-(-size // BLOCK_SIZE) for size in (first, second)),
        block_size=BLOCK_SIZE,
        dtype=model.dtype,
        device=model.device,
        states=shape.pool(2, 2, model.device),
    )
    forward = TransformersForward(model, TorchAttention(), shape.states)
    try:
        for step in _steps(first, second, num_decoded):
            slices = [Slice(sequences[row], start, end - start, True) for row, start, end in step]
            plan = StepPlan(tuple(slices))
            batch = Batch.from_plan(plan, BLOCK_SIZE, model.device, cache.states)
            # From the last to the first: a model that gives all logits, whichever are asked for,
            # gives them in order.
            backwards = torch.arange(len(batch.token_ids), device=model.device).flip(0)
            actual = forward(replace(batch, sampled=backwards), cache)
            cache.commit(batch.states)
            expected = torch.cat([own[min(row, 1)][start:end] for row, start, end in step])
            yield expected.flip(0), actual
    finally:
        forward.close()


@torch.inference_mode()
def own_rounding(model: Any, length: int) -> float:
    """How much the model's own logits for these sequences differ if half of the tokens are decoded,
    at most."""
    gaps = [
        (_own_logits(model, row[None], 0) - _own_logits(model, row[None], len(row) // 2)).abs()
        for row in _rows(model, length)
    ]
    return max(gap.max().item() for gap in gaps)


def _rows(model: Any, length: int) -> tuple[torch.Tensor, ...]:
    """Token ids of a sequence of this length, and of a shorter one."""
    shorter = max(1, 5 * length // 8)
    tokens = probe(model, length + shorter)[0]
    return tokens[:length], tokens[length:]


def _sequences(rows: list[list[int]]) -> list[Sequence]:
    """One for each row, whose blocks are neither in order nor adjacent, and one with the tokens of
    the second on the blocks, and in the slot, of the first."""
    first, second = ([*range(-(-len(row) // BLOCK_SIZE))] for row in rows)
    taken = iter(range(len(first) + len(second) - 1, -1, -1))
    tables: list[list[int]] = [[], []]
    for pair in itertools.zip_longest(first, second):
        for table, wanted in zip(tables, pair, strict=True):
            table += [] if wanted is None else [next(taken)]
    return [
        Sequence(rows[0], blocks=tables[0], state=0),
        Sequence(rows[1], blocks=tables[1], state=1),
        Sequence(rows[1], blocks=tables[0][::-1], state=0),
    ]


def _own_logits(model: Any, row: torch.Tensor, num_decoded: int) -> torch.Tensor:
    """Logits (length, vocab) of token ids (1, length). The last tokens are decoded one by one, as
    in `generate`: some models apply their window only then."""
    length = row.shape[1]
    told = model(input_ids=row[:, : length - num_decoded], use_cache=num_decoded > 0)
    parts = [told.logits]
    for place in range(length - num_decoded, length):
        told = model(
            input_ids=row[:, place : place + 1],
            position_ids=torch.full((1, 1), place, device=row.device),
            use_cache=True,
            **caches(told),
        )
        parts.append(told.logits)
    return torch.cat(parts, 1)[0]


def _steps(first: int, second: int, num_decoded: int) -> Iterator[Step]:
    """What each step computes of sequences of so many tokens; the third is as long as the second.
    A decoded token comes before longer pieces, and nothing is empty."""
    prompt = first - num_decoded
    pieces = [(second - 1) * part // (num_decoded + 1) for part in range(num_decoded + 2)]
    steps = [
        [(0, 0, prompt // 2)],
        [(0, prompt // 2, prompt), (1, 0, pieces[1])],
        *(
            [(0, prompt + n, prompt + n + 1), (1, pieces[n + 1], pieces[n + 2])]
            for n in range(num_decoded)
        ),
        [(1, second - 1, second), (2, 0, second // 2)],
        [(2, second // 2, second)],
    ]
    for step in steps:
        parts = [(row, start, end) for row, start, end in step if end > start]
        if parts:
            yield sorted(parts, key=lambda part: part[2] - part[1] > 1)
