"""Thousands of random requests with cancels: the pools are whole and memory flat at the end."""

from __future__ import annotations

import asyncio
import gc
import random
from pathlib import Path

import psutil
import pytest
from bounded import run

from llmserve.domain import Cancelled, Failed, Finish, ModelSpec, SamplingParams
from llmserve.engines.engine import Generator
from llmserve.engines.factory import build_engine
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask

ROUNDS = 8
REQUESTS = 240
AT_ONCE = 24
POOL_TOKENS = 384
"""Small, so that blocks run out and requests are preempted all the time."""


BEGINNING = tuple(random.Random(1).randrange(4, 12) for _ in range(80))
"""Of many prompts: so long that recurrent states are kept in it."""


async def one(engine: Generator, numbers: random.Random) -> Job:
    prompt = [numbers.randrange(4, 12) for _ in range(numbers.randrange(1, 60))]
    if numbers.random() < 0.3:
        prompt = [*BEGINNING, *prompt[:20]]
    params = SamplingParams(
        temperature=numbers.choice([0.0, 0.8]),
        top_p=numbers.choice([1.0, 0.9]),
        repetition_penalty=numbers.choice([1.0, 1.1]),
        presence_penalty=numbers.choice([0.0, 0.5]),
        seed=numbers.randrange(100),
        logprobs=numbers.choice([None, 3]),
    )
    done = asyncio.Event()
    job = Job(
        TokenTask(
            request_id="id",
            prompt_ids=tuple(prompt),
            sampling=params,
            max_tokens=numbers.randrange(1, 120),
            caller=numbers.choice("abc"),
        ),
        Mailbox(asyncio.get_running_loop()),
        on_done=done.set,
    )
    engine.start(job)
    leaves_after = numbers.choice([None, None, 0, 1, 10])
    count = 0
    while not isinstance(await job.mailbox.next(), Finish | Failed | Cancelled):
        if count == leaves_after:
            job.cancel()
        count += 1
    await done.wait()
    return job


async def round_of(engine: Generator, numbers: random.Random, count: int) -> list[Job]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def bounded() -> Job:
        async with turn:
            return await one(engine, numbers)

    return list(await asyncio.gather(*(bounded() for _ in range(count))))


@pytest.mark.timeout(300)
def test_the_pool_is_whole_and_memory_flat(tiny_model: Path) -> None:
    soak(tiny_model, ROUNDS, REQUESTS)


@pytest.mark.timeout(300)
def test_the_pools_of_a_model_with_states_are_whole_and_memory_flat(hybrid_model: Path) -> None:
    soak(hybrid_model, 4, 80)


def soak(folder: Path, rounds: int, requests: int) -> None:
    """Keys and values of both models take the same."""

    async def test() -> None:
        spec = ModelSpec("tiny", path=folder, dtype="float32", device="cpu")
        engine = build_engine(
            spec,
            EngineOptions(
                lambda spec, report: folder,
                max_running=AT_ONCE,
                torch_threads=1,
                kv_cache_bytes=POOL_TOKENS * 2 * 2 * 2 * 16 * 4,
            ),
        )
        await engine.load(lambda progress: None)
        process, numbers, sizes = psutil.Process(), random.Random(5), []
        try:
            for _ in range(rounds):
                jobs = await round_of(engine, numbers, requests)
                ends = [type(job.mailbox.terminal) for job in jobs]
                assert Failed not in ends
                assert Cancelled in ends
                assert Finish in ends
                stats = engine.stats()
                assert (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)
                assert stats.states_used == 0
                del jobs
                gc.collect()
                sizes.append(process.memory_info().rss)
            stats = engine.stats()
            assert stats.preemptions > 0
            assert (stats.checkpoint_hits > 0) == (stats.states_total > 0)
        finally:
            await engine.close()
        # The first rounds fill allocators' pools; a leak of a request's tokens would go on.
        growth = sizes[-1] - sizes[2]
        assert growth < 16 * 2**20, f"{growth / 2**20:.1f} MiB more after {sizes}"

    run(test, seconds=280)
