"""Steps to time: plans over blocks that hold any numbers, and what they cost part by part."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence

GREEDY = SamplingParams(temperature=0.0)


def sequence(number: int, tokens: int, first_block: int, block_size: int) -> Sequence:
    """Tokens that hold in blocks from `first_block` on."""
    count = -(-tokens // block_size)
    return Sequence(
        token_ids=[(13 * number + token) % 1000 + 10 for token in range(tokens)],
        blocks=list(range(first_block, first_block + count)),
    )


def plan_of(
    decode_rows: int, context: int, block_size: int, prompts: Collection[int] = ()
) -> StepPlan:
    """Rows that decode at `context` tokens, and whole prompts of so many tokens."""
    parts, block = [], 1
    for number, (tokens, length) in enumerate(
        [(context, 1)] * decode_rows + [(prompt, prompt) for prompt in prompts]
    ):
        one = sequence(number, tokens, block, block_size)
        block += len(one.blocks)
        parts.append(Slice(one, tokens - length, length, is_sampled=True))
    return StepPlan(tuple(sorted(parts, key=lambda part: part.length > 1)))


def rows_of(
    plan: StepPlan, device: torch.device, vocab: int, params: SamplingParams = GREEDY
) -> list[RowState]:
    """Sampling for each row."""
    return [RowState(params, part.sequence.token_ids, [], vocab, device) for part in plan.slices]


def median_seconds(work: Callable[[], object], repeats: int, *, warm: int = 3) -> float:
    """Wall time of work that ends on the host."""
    for _ in range(warm):
        work()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def device_seconds(work: Callable[[], object], repeats: int, *, warm: int = 3) -> float:
    """Device time of work, one after the other with no word from the host between."""
    for _ in range(warm):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / repeats


@dataclass(frozen=True, slots=True)
class Affine:
    """seconds = fixed + per_token × tokens, by least squares."""

    fixed: float
    per_token: float

    @classmethod
    def through(cls, points: list[tuple[float, float]]) -> Affine:
        """Through (tokens, seconds)."""
        mean_x = statistics.fmean(x for x, _ in points)
        mean_y = statistics.fmean(y for _, y in points)
        spread = sum((x - mean_x) ** 2 for x, _ in points)
        slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
        return cls(mean_y - slope * mean_x, slope)
