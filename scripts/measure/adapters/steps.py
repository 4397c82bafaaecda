"""Decode steps whose rows have adapters, or none, in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmserve.clock import awake_clock
from llmserve.domain import Caller, GenerationRequest, SamplingFields
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.step_report import StepReport
from llmserve.engines.task import Task

PROMPT_TOKENS = 16

Rows = Sequence[str | None]
"""The adapter of each row of a step."""


@dataclass
class Measured:
    """Of each step, the seconds; of each round, CPU seconds of a step."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)


async def step_seconds(
    engine: Generator,
    reports: list[StepReport],
    kinds: Mapping[str, Rows],
    tokens: int,
    rounds: int,
) -> dict[str, Measured]:
    """Of steps that sample all rows and read no prompt, by kind."""
    found = {name: Measured() for name in kinds}
    for round_number in range(rounds + 1):
        for name, rows in kinds.items():
            tasks = await prepared(engine, rows, tokens)
            reports.clear()
            begun = time.process_time()
            await asyncio.gather(*(finished(engine, task) for task in tasks))
            spent = time.process_time() - begun
            if round_number:  # the first one warms up
                found[name].seconds += [
                    r.seconds for r in reports if r.sampled == len(rows) == r.tokens
                ]
                found[name].cpu_seconds.append(spent / len(reports))
    return found


async def prepared(engine: Generator, rows: Rows, tokens: int) -> Sequence[Task]:
    """A task for each, greedy."""
    sampling = SamplingFields(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    requests = [
        GenerationRequest(
            f"bench-{index}",
            tuple(range(300 + index, 300 + index + PROMPT_TOKENS)),
            sampling=sampling,
            adapter=adapter,
        )
        for index, adapter in enumerate(rows)
    ]
    deadline = awake_clock() + 600
    return await engine.prepare(requests, Caller("bench"), deadline, lambda: lambda: None)


async def finished(engine: Generator, task: Task) -> Job:
    """The job of a task, once it has ended."""
    done = asyncio.Event()
    job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
    engine.start(job)
    await done.wait()
    return job
