"""The engine without a server: jobs straight into it, nobody reads."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable
from pathlib import Path

from llmserve.bench.workload import FIRST_TOKEN_ID
from llmserve.domain import Failed, ModelSpec, SamplingParams
from llmserve.engines.batching.loop import StepReport
from llmserve.engines.engine import Engine
from llmserve.engines.factory import build_engine
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import Task
from measure.speed.limits import Workload


async def build(
    folder: Path,
    max_running: int,
    kv_cache_bytes: int,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> Engine:
    """The engine that the server would take, loaded."""
    engine = build_engine(
        ModelSpec("bench", path=folder),
        max_running=max_running,
        kv_cache_bytes=kv_cache_bytes,
        fetch=lambda spec, report: folder,
        on_step=on_step,
    )
    await engine.load(lambda progress: None)
    # As the server does once a model is loaded: a full collection takes longer than several steps.
    gc.collect()
    gc.freeze()
    return engine


async def tokens_per_second(engine: Engine, work: Workload, token_ids: int, seed: int) -> float:
    """All requests of a workload at once, until the last is done. Prompts are random tokens below
    `token_ids`; the same seed gives the same, which the prefix cache then knows."""
    numbers = random.Random(seed)
    begun = time.perf_counter()
    jobs = [_start(engine, work, token_ids, numbers) for _ in range(work.concurrency)]
    for job, done in jobs:
        await done.wait()
        assert not isinstance(job.mailbox.terminal, Failed), job.mailbox.terminal
    return work.concurrency * work.output_tokens / (time.perf_counter() - begun)


def _start(
    engine: Engine, work: Workload, token_ids: int, numbers: random.Random
) -> tuple[Job, asyncio.Event]:
    prompt = tuple(numbers.randrange(FIRST_TOKEN_ID, token_ids) for _ in range(work.input_tokens))
    done = asyncio.Event()
    task = Task(
        "bench", prompt, SamplingParams(temperature=0.0, ignore_eos=True), work.output_tokens
    )
    job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
    engine.start(job)
    return job, done
