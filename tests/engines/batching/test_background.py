"""Background jobs in the batching engine: paused, resumed and preempted, they say the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from engines.batching.asked import Asked, engine_of, generated
from engines.batching.letters_machine import Machine, NextLetter

from llmserve.domain import Cancelled, EngineKind, Failed, Finish
from llmserve.engines.batching import beside
from llmserve.engines.batching.beside import COMPARED, SHARE_EVERY
from llmserve.engines.engine import Generator
from llmserve.errors import GenerationFailed

ENDLESS = 400
PROMPT = (5, 6, 7, 8, 9)


def test_a_paused_job_makes_no_token_and_goes_on_when_the_others_are_done() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        work = machine.submit(max_tokens=6, is_background=True)
        await machine.turns(2)
        other = machine.submit(max_tokens=COMPARED)
        made = work.completion_tokens
        await machine.turns(COMPARED)
        assert isinstance(other.mailbox.terminal, Finish)
        assert work.completion_tokens == made == 2
        await machine.turns(4)
        assert isinstance(work.mailbox.terminal, Finish)
        await machine.check_whole(work, other)

    run(test)


@pytest.mark.parametrize("began", [True, False], ids=["paused", "waiting"])
def test_a_cancel_reaches_a_job_that_is_not_computed(began: bool) -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        works = [machine.submit(max_tokens=9, is_background=True)] if began else []
        await machine.turns(1)
        other = machine.submit(max_tokens=9)
        await machine.turns(1)
        if not began:
            works = [machine.submit(max_tokens=9, is_background=True)]
        await machine.turns(1)
        works[0].cancel()
        await machine.turns(1)
        assert isinstance(works[0].mailbox.terminal, Cancelled)
        assert other.mailbox.terminal is None
        other.cancel()
        await machine.turns(1)
        await machine.check_whole(other, *works)

    run(test)


def test_it_gets_a_step_now_and_then_though_others_never_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beside, "ALONE_EVERY", 1)  # nothing rides along

    async def test() -> None:
        machine = Machine(NextLetter(), num_blocks=999)
        work = machine.submit(max_tokens=3, is_background=True)
        other = machine.submit(max_tokens=4 * SHARE_EVERY)
        await machine.turns(3 * SHARE_EVERY + 1)
        assert isinstance(work.mailbox.terminal, Finish)
        assert other.mailbox.terminal is None
        other.cancel()
        await machine.turns(1)
        await machine.check_whole(work, other)

    run(test)


def test_a_loop_that_ends_tells_a_paused_job() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        work = machine.submit(max_tokens=9, is_background=True)
        await machine.turns(1)
        other = machine.submit(max_tokens=9)
        await machine.turns(1)
        machine.loop.close()
        await asyncio.to_thread(machine.loop.run)
        assert isinstance(work.mailbox.terminal, Cancelled)
        await machine.check_whole(work, other)

    run(test)


def test_a_step_that_fails_for_others_leaves_a_paused_job_alone() -> None:
    async def test() -> None:
        computation = NextLetter()
        machine = Machine(computation)
        work = machine.submit(max_tokens=4, is_background=True)
        await machine.turns(1)
        other = machine.submit(max_tokens=9)
        await machine.turns(1)
        computation.error = ValueError("broke")
        await machine.turns(1)
        computation.error = None
        assert isinstance(other.mailbox.terminal, Failed)
        assert isinstance(other.mailbox.terminal.error, GenerationFailed)
        await machine.turns(4)
        assert isinstance(work.mailbox.terminal, Finish)
        await machine.check_whole(work, other)

    run(test)


@pytest.mark.parametrize("params", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "sampled"])
@pytest.mark.parametrize(("places", "blocks"), [(2, 12), (8, 64)], ids=["preempted", "paused"])
def test_it_makes_the_same_tokens_as_alone(
    tiny_model: Path, params: dict[str, Any], places: int, blocks: int
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, EngineKind.BATCHING, max_running=2) as engine:
            alone = await Asked(engine, PROMPT, 40, is_background=True, **params).tokens()
            block_bytes = engine.info.cache_bytes // engine.stats().blocks_total
        async with engine_of(
            tiny_model,
            EngineKind.BATCHING,
            max_running=places,
            kv_cache_bytes=block_bytes * blocks,
            prefix_caching=False,
        ) as engine:
            assert engine.can_pause
            works = [Asked(engine, PROMPT, 40, is_background=True, **params) for _ in range(3)]
            await _made(works[0], 5)
            others = [Asked(engine, (9, 8, n), 30) for n in (1, 2)]
            for other, last in zip(others, (1, 2), strict=True):
                assert await other.tokens() == generated(tiny_model, (9, 8, last), 30)
            assert [await work.tokens() for work in works] == [alone] * 3
            assert (engine.stats().preemptions > 0) == (places == 2)
            await _is_whole(engine)

    run(test)


def test_slots_are_for_others_however_much_background_work_there_is(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, EngineKind.BATCHING, max_running=2) as engine:
            works = [Asked(engine, (5, n), ENDLESS, is_background=True) for n in range(6)]
            await _made(works[0], 2)
            others = [Asked(engine, (6, n), 5) for n in (1, 2)]
            for other in others:
                assert len(await other.tokens()) == 5
            assert all(work.job.mailbox.terminal is None for work in works)
            assert engine.stats().running == 6
            for work in works:
                work.job.cancel()
                await work.events()
            await _is_whole(engine)

    run(test)


async def _made(asked: Asked, count: int) -> None:
    async with asyncio.timeout(30):
        while asked.job.completion_tokens < count:
            await asyncio.sleep(0.001)


async def _is_whole(engine: Generator) -> None:
    async with asyncio.timeout(30):
        while engine.stats().running or engine.stats().blocks_used:
            await asyncio.sleep(0.001)
