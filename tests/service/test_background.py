"""Background work in the service: it waits as long as it may, gives way, and is told apart."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest
from bounded import run
from manual_clock import ManualClock
from service.house import House, events_of, house

from llmserve.domain import (
    Caller,
    Cancelled,
    Failed,
    Finish,
    FinishReason,
    GenerationRequest,
    Queued,
    Terminal,
)
from llmserve.errors import Displaced, GenerationFailed, InvalidRequest, QueueFull, ShuttingDown
from llmserve.service import Generation

BATCH = Caller("batch", is_background=True)


def work(h: House, **fields: Any) -> contextlib.AbstractAsyncContextManager[Generation]:
    return h.service.open(GenerationRequest(id="b", prompt="hello", **fields), BATCH)


def loads(h: House) -> tuple[tuple[int, int], tuple[int, int]]:
    return h.load, h.service.background_load(h.registry.models[0])


def test_too_much_of_it_is_refused() -> None:
    async def test() -> None:
        async with house() as h:
            gates = h.service._entrance.gates
            gates._limits = replace(gates._limits, max_background_waiting=1)
            async with work(h), work(h):
                with pytest.raises(QueueFull, match="background"):
                    async with work(h):
                        pass
                assert loads(h) == ((0, 0), (1, 1))
                requests = [GenerationRequest(id=str(n), prompt="hello") for n in range(3)]
                with pytest.raises(InvalidRequest, match="in the background at most"):
                    async with h.service.open_all(requests, BATCH):
                        pass
            h.engine.finish_all()
            assert loads(h) == ((0, 0), (0, 0))

    run(test)


def test_it_gives_its_slot_to_whoever_comes_and_may_be_sent_again() -> None:
    async def test() -> None:
        async with house(capacity=1) as h:
            async with work(h) as first:
                job = h.engine.running[0]
                h.engine.say(job, "a")
                async with h.open() as mine:
                    *_, last = await events_of(first)
                    assert isinstance(last, Failed)
                    assert isinstance(last.error, Displaced)
                    assert job.is_cancelled
                    assert loads(h) == ((0, 1), (1, 0)), "the engine has not let go of it"
                    h.engine.finish(job)
                    assert loads(h) == ((1, 0), (0, 0))
                    async with work(h) as again:
                        h.engine.finish(h.engine.running[0])
                        assert isinstance(mine.terminal, Finish)
                        h.engine.finish(h.engine.running[0])
                        assert isinstance(again.terminal, Finish)
            assert h.sample("llmserve_background_requests_displaced_total") == 1
            assert h.sample("llmserve_request_failure_total") == 0

    run(test)


def test_its_deadline_ends_it_though_its_engine_has_paused_it() -> None:
    async def test() -> None:
        async with house() as h, work(h, timeout_seconds=0.05) as paused:
            job = h.engine.running[0]
            h.engine.say(job, "a")
            events = await events_of(paused)  # the engine says nothing more
            ends = [event for event in events if isinstance(event, Terminal)]
            assert ends == events[-1:]
            assert isinstance(ends[0], Finish)
            assert ends[0].reason is FinishReason.TIMEOUT
            assert job.is_cancelled
            assert loads(h) == ((0, 0), (1, 0)), "the engine has not let go of it"
            h.engine.finish(job)
            assert loads(h) == ((0, 0), (0, 0))

    run(test)


def test_it_waits_for_longer_than_others_and_up_to_its_own_deadline() -> None:
    async def test() -> None:
        async with (
            house(wait=0.01) as h,
            h.open() as mine,
            work(h, timeout_seconds=0.05) as short,
            work(h) as waiting,
        ):
            answer = await short.collect()
            assert answer.finish.reason is FinishReason.TIMEOUT
            assert waiting.terminal is None
            h.engine.finish(h.engine.running[0])
            assert isinstance(mine.terminal, Finish)
            assert h.engine.running[0].task.is_background
            assert loads(h) == ((0, 0), (1, 0))

    run(test)


def test_its_time_has_a_bound_of_its_own() -> None:
    async def test() -> None:
        clock = ManualClock(1000.0)
        async with house(timeout_=60.0, clock=clock) as h, work(h, timeout_seconds=5000.0):
            assert h.engine.running[0].task.deadline == 6000.0

    run(test)


def test_leaving_the_line_frees_the_place() -> None:
    async def test() -> None:
        async with house() as h, work(h):
            async with work(h) as waiting:
                assert loads(h) == ((0, 0), (1, 1))
                events = waiting.events()
                assert await anext(events) == Queued(0, None)
                await events.aclose()
            assert loads(h) == ((0, 0), (1, 0))
            assert isinstance(waiting.terminal, Cancelled)
            assert len(h.engine.started) == 1

    run(test)


def test_a_drain_ends_it_at_once_and_waits_for_the_others() -> None:
    async def test() -> None:
        async with house(capacity=3) as h, work(h) as running, h.open() as mine, work(h) as waiting:
            drain = asyncio.create_task(h.service.drain(10))
            await asyncio.sleep(0)
            for ended in (running, waiting):
                assert isinstance(ended.terminal, Failed)
                assert isinstance(ended.terminal.error, Displaced)
            assert mine.terminal is None
            with pytest.raises(ShuttingDown):
                async with work(h):
                    pass
            h.engine.finish_all()
            drain.cancel()

    run(test)


def test_a_worker_that_is_replaced_takes_none_and_ends_what_it_has() -> None:
    async def test() -> None:
        async with house(capacity=2) as h, work(h) as running:
            h.service.begin_retirement()
            assert isinstance(running.terminal, Failed)
            assert isinstance(running.terminal.error, Displaced)
            with pytest.raises(ShuttingDown):
                async with work(h):
                    pass
            async with h.open() as mine:
                h.engine.finish_all()
                assert isinstance(mine.terminal, Finish)

    run(test)


def test_a_hung_engine_fails_it_as_well() -> None:
    async def test() -> None:
        clock = ManualClock(100.0)
        async with house(clock=clock) as h, work(h) as running:
            h.engine.running[0].last_step_at = 100.0
            clock.now = 300.0
            error = GenerationFailed("hangs")
            assert h.service.fail_silent(h.registry.models[0], 120.0, error) == 1
            assert running.terminal == Failed(error, running.usage)

    run(test)


def test_no_series_of_others_has_it() -> None:
    async def test() -> None:
        async with house() as h:
            async with work(h) as generation:
                job = h.engine.running[0]
                assert h.sample("llmserve_num_background_requests_running") == 1
                assert h.sample("llmserve_num_requests_running") == 0
                h.engine.say(job, "a")
                job.on_interval(100.0)
                h.engine.finish(job)
                await generation.collect()
            for latency in ("inter_token_latency", "e2e_request_latency", "time_to_first_token"):
                assert h.sample(f"llmserve_{latency}_seconds_count") == 0
            assert h.sample("llmserve_request_queue_time_seconds_count") == 0
            assert h.sample("llmserve_generation_tokens_total") == 1
            assert h.sample("llmserve_key_requests_total") == 1
            assert h.sample("llmserve_num_background_requests_running") == 0

    run(test)
