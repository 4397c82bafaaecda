"""Jobs for an engine alone: of a step's rows, and of one stream whose reader takes the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    Cancelled,
    Delta,
    Failed,
    Finish,
    GenerationRequest,
    SamplingFields,
)
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import Task

PROMPT_TOKENS = 16
STREAM_TOKENS = 1900


async def prepared(
    engine: Generator, rows: Sequence[Mapping[str, Any]], tokens: int, *, temperature: float
) -> Sequence[Task]:
    """A task for each row, whose request has these fields beside its prompt."""
    sampling = SamplingFields(temperature=temperature, max_tokens=tokens, ignore_eos=True)
    requests = [
        GenerationRequest(
            f"bench-{index}",
            tuple(range(300 + index, 300 + index + PROMPT_TOKENS)),
            sampling=sampling,
            **fields,
        )
        for index, fields in enumerate(rows)
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


async def intervals(engine: Generator, seconds: float, *, temperature: float) -> list[float]:
    """Seconds between tokens as their reader sees them, of streams one after another for so
    long."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        (task,) = await prepared(engine, [{}], STREAM_TOKENS, temperature=temperature)
        done = asyncio.Event()
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
        engine.start(job)
        last: float | None = None
        while not isinstance(event := await job.mailbox.next(), Finish | Failed | Cancelled):
            now = time.perf_counter()
            if isinstance(event, Delta):
                found += [] if last is None else [now - last]
                last = now
            if now > until:
                job.cancel()
        await done.wait()
    return found
