"""A long prompt among running streams, and a prompt whose beginning is known: as clients see it."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from dataclasses import dataclass

from llmserve.bench.answer import TimedAnswer
from llmserve.bench.load import Amount, Load, first_model
from llmserve.bench.target import Target
from llmserve.bench.workload import Workload


@dataclass(frozen=True, slots=True)
class Intrusion:
    """Seconds between the tokens of streams that ran while a long prompt was read, and that
    prompt's own seconds to its first token."""

    itl_median: float
    itl_p99: float
    long_ttft: float


async def intrude(url: str, streams: int = 8, prompt_tokens: int = 2000) -> Intrusion:
    """The long prompt comes once all streams run; gaps are counted over the streams' whole life."""
    target = Target.parse(url)
    model = await first_model(target)
    base = await calibrated(target, Workload(model, input_tokens=128, output_tokens=256))
    running = Load(target, base, Amount(requests=streams, concurrency=streams))
    task = asyncio.create_task(running.run())
    await asyncio.sleep(1.0)
    long = Workload(
        model, input_tokens=prompt_tokens, output_tokens=8, seed=5,
        words_per_token=base.words_per_token,
    )  # fmt: skip
    told = await Load(target, long, Amount(requests=1)).run()
    collected = await task
    gaps = sorted(itertools.chain.from_iterable(answer.gaps for answer in collected.answers))
    first = told.answers[0].ttft
    assert first is not None, told.answers[0].error
    return Intrusion(statistics.median(gaps), gaps[int(0.99 * len(gaps))], first)


async def prefix_ttfts(url: str, prefix_tokens: int = 1500, pairs: int = 3) -> tuple[float, float]:
    """Median seconds to the first token of prompts with a new prefix, and of second ones."""
    target = Target.parse(url)
    model = await first_model(target)
    base = Workload(
        model, input_tokens=prefix_tokens + 20, output_tokens=4, shared_tokens=prefix_tokens
    )
    base = await calibrated(target, base)
    answers: list[list[TimedAnswer]] = []
    for number in range(pairs):
        wanted = Workload(
            model, input_tokens=prefix_tokens + 20, output_tokens=4, shared_tokens=prefix_tokens,
            words_per_token=base.words_per_token, seed=1000 + number + time.time_ns() % 10**6,
        )  # fmt: skip
        answers.append((await Load(target, wanted, Amount(requests=2)).run()).answers)
    first, second = (
        statistics.median(pair[index].ttft or 0.0 for pair in answers) for index in (0, 1)
    )
    return first, second


async def calibrated(target: Target, workload: Workload) -> Workload:
    """The workload with words that make the tokens it asks for, by one request's count."""
    told = await Load(target, workload, Amount(requests=1)).run()
    tokens = told.answers[0].prompt_tokens
    return workload.calibrated(tokens) if tokens else workload
