"""The engine without a server: jobs straight into it, nobody reads."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

from llmserve.bench.workload import FIRST_TOKEN_ID
from llmserve.domain import Failed, ModelSpec, SamplingParams
from llmserve.engines.engine import Generator
from llmserve.engines.factory import build_engine
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.step_report import StepReport
from llmserve.engines.task import TokenTask
from llmserve.registry.frozen_heap import freeze_heap
from measure.speed.limits import Workload


async def build(
    folder: Path,
    max_running: int,
    kv_cache_bytes: int,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> Generator:
    """The engine that the server would take, loaded."""
    engine = build_engine(
        ModelSpec("bench", path=folder),
        EngineOptions(
            lambda spec, report: folder,
            max_running=max_running,
            kv_cache_bytes=kv_cache_bytes,
            on_step=lambda model, report: on_step(report),
        ),
    )
    await engine.load(lambda progress: None)
    freeze_heap()  # as the server does once its models are loaded
    return engine


async def tokens_per_second(
    engine: Generator, work: Workload, token_ids: int, seed: int, at_once: int | None = None
) -> float:
    """All requests of a workload, until the last is done: at once, or as many as an engine takes,
    for which a server has a gate. Prompts are random tokens below `token_ids`; the same seed gives
    the same, which the prefix cache then knows."""
    numbers = random.Random(seed)
    room = asyncio.Semaphore(at_once or work.concurrency)
    prompts = [
        tuple(numbers.randrange(FIRST_TOKEN_ID, token_ids) for _ in range(work.input_tokens))
        for _ in range(work.concurrency)
    ]
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for prompt in prompts:
            group.create_task(_finished(engine, work, prompt, room))
    return work.concurrency * work.output_tokens / (time.perf_counter() - begun)


async def _finished(
    engine: Generator, work: Workload, prompt: tuple[int, ...], room: asyncio.Semaphore
) -> None:
    done = asyncio.Event()
    task = TokenTask(
        request_id="bench",
        prompt_ids=prompt,
        sampling=SamplingParams(temperature=0.0, ignore_eos=True),
        max_tokens=work.output_tokens,
    )
    async with room:
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
        engine.start(job)
        await done.wait()
    assert not isinstance(job.mailbox.terminal, Failed), job.mailbox.terminal
