"""An engine that may refuse a job it was given: its refusal is one of `open`, with a status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from bounded import run
from fake_engine import FakeEngine
from service.house import CALLER, House, events_of, house

from llmserve.domain import Failed, Finish, GenerationRequest
from llmserve.engines.job import Job
from llmserve.errors import GenerationFailed, QueueFull
from llmserve.service import service as service_module

FULL = QueueFull("busy over there", retry_after_seconds=3.0)


def scripted(h: House, script: Callable[[Job], None]) -> None:
    """The engine refuses late, and does this soon after each start."""
    engine, start = h.engine, h.engine.start
    engine.refuses_late = True  # type: ignore[misc]

    def started(job: Job) -> None:
        start(job)
        asyncio.get_running_loop().call_later(0.01, script, job)

    engine.start = started  # type: ignore[method-assign]


def refuse(engine: FakeEngine) -> Callable[[Job], None]:
    def script(job: Job) -> None:
        job.started_at = None
        engine.finish(job, FULL)

    return script


def test_a_refusal_before_the_answer_began_is_raised() -> None:
    async def test() -> None:
        async with house() as h:
            scripted(h, refuse(h.engine))
            with pytest.raises(QueueFull) as refused:
                async with h.open():
                    pass
            assert refused.value.retry_after_seconds == 3.0
            assert h.load == (0, 0)
            assert h.sample("llmserve_request_failure_total") == 1

    run(test)


def test_one_refusal_closes_the_other_choices() -> None:
    async def test() -> None:
        async with house(capacity=2) as h:
            jobs: list[Job] = []

            def script(job: Job) -> None:
                jobs.append(job)
                if len(jobs) == 2:
                    refuse(h.engine)(job)
                else:
                    job.on_started()

            scripted(h, script)
            requests = [GenerationRequest("r", "hello") for _ in range(2)]
            with pytest.raises(QueueFull):
                async with h.service.open_all(requests, CALLER):
                    pass
            assert jobs[0].is_cancelled

    run(test)


def test_what_goes_wrong_later_is_an_event() -> None:
    async def test() -> None:
        async with house() as h:
            scripted(h, lambda job: job.on_started())
            async with h.open() as generation:
                h.engine.finish(h.engine.running[0], GenerationFailed("later"))
                assert isinstance((await events_of(generation))[-1], Failed)

    run(test)


def test_an_engine_that_says_nothing_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        monkeypatch.setattr(service_module, "BEGIN_SECONDS", 0.02)
        async with house() as h:
            scripted(h, lambda job: None)
            async with h.open() as generation:
                h.engine.finish_all()
                assert isinstance((await events_of(generation))[-1], Finish)

    run(test)


def test_one_that_waits_for_its_turn_is_not_waited_for() -> None:
    async def test() -> None:
        async with house(capacity=1) as h:
            scripted(h, lambda job: job.on_started())
            async with h.open(), h.open():
                assert h.load == (1, 1)

    run(test)
