"""The service over a fake engine: every way out, and everything given back."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from bounded import run
from fake_engine import FakeEngine
from manual_clock import ManualClock
from service.house import CALLER, events_of, house

from llmserve.domain import (
    AnswerRules,
    Cancelled,
    Delta,
    Failed,
    Finish,
    FinishReason,
    GenerationRequest,
    ModelSpec,
    Queued,
    SamplingFields,
    Started,
)
from llmserve.engines.job import Job
from llmserve.errors import (
    GenerationFailed,
    InvalidRequest,
    ModelBroken,
    ModelLoading,
    ModelNotFound,
    PromptTooLong,
    QueueFull,
    ShuttingDown,
    WaitTimeout,
)
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Recorder, Service
from llmserve.service import generation as generation_module


def test_a_full_gate_refuses_and_says_when_to_come_back() -> None:
    async def test() -> None:
        async with house(capacity=1, max_waiting=1) as h, h.open(), h.open():
            assert h.load == (1, 1)
            with pytest.raises(QueueFull) as refused:
                async with h.open():
                    pass
            assert refused.value.retry_after_seconds >= 1
            assert h.load == (1, 1)
            assert h.sample("llmserve_requests_rejected_total") == 1

    run(test)


def test_leaving_the_queue_frees_the_place_and_never_starts() -> None:
    async def test() -> None:
        async with house() as h, h.open():
            async with h.open():
                assert h.load == (1, 1)
            assert h.load == (1, 0)
            assert len(h.engine.started) == 1

    run(test)


def test_leaving_while_running_cancels_the_job_and_frees_the_slot_when_it_ends() -> None:
    async def test() -> None:
        async with house() as h:
            async with h.open() as generation:
                job = h.engine.running[0]
                h.engine.say(job, "a")
            assert job.is_cancelled
            assert h.load == (1, 0), "the worker still runs: its slot is not free"
            h.engine.say(job, "b")
            h.engine.finish(job)
            assert h.load == (0, 0)
            assert isinstance(generation.terminal, Cancelled)
            assert h.sample("llmserve_tokens_generated_after_disconnect_total") == 1
            assert h.sample("llmserve_request_cancelled_total") == 1
            assert h.sample("llmserve_cancel_latency_seconds_count") == 1

    run(test)


def test_a_reader_that_never_reads_holds_nothing() -> None:
    async def test() -> None:
        async with house() as h, h.open() as first, h.open():
            h.engine.finish(h.engine.running[0])
            assert isinstance(first.terminal, Finish)
            assert h.load == (1, 0), "the second started although nobody read the first"

    run(test)


def test_waiting_too_long_ends_in_an_error_event() -> None:
    async def test() -> None:
        async with house(wait=0.01) as h, h.open(), h.open() as waiting:
            *queued, last = await events_of(waiting)
            assert all(isinstance(event, Queued) for event in queued)
            assert isinstance(last, Failed)
            assert isinstance(last.error, WaitTimeout)
            assert h.load == (1, 0)

    run(test)


def test_a_deadline_in_the_queue_returns_nothing_and_says_timeout() -> None:
    async def test() -> None:
        async with house() as h, h.open(), h.open(timeout_seconds=0.01) as waiting:
            answer = await waiting.collect()
            assert answer.text == ""
            assert answer.finish.reason is FinishReason.TIMEOUT
            assert answer.finish.usage.prompt_tokens == 5
            assert h.load == (1, 0)

    run(test)


def test_a_deadline_in_a_silent_worker_does_not_keep_the_client() -> None:
    async def test() -> None:
        async with house() as h, h.open(timeout_seconds=0.01) as generation:
            h.engine.say(h.engine.running[0], "so far")
            answer = await generation.collect()
            assert (answer.text, answer.finish.reason) == ("so far", FinishReason.TIMEOUT)
            assert h.engine.running[0].is_cancelled

    run(test)


def test_an_engine_error_is_an_event_and_the_next_request_works() -> None:
    async def test() -> None:
        async with house() as h:
            async with h.open() as generation:
                h.engine.finish(h.engine.running[0], GenerationFailed("boom"))
                with pytest.raises(GenerationFailed):
                    await generation.collect()
            async with h.open() as generation:
                h.engine.finish(h.engine.running[0])
                assert (await generation.collect()).text == ""

    run(test)


@pytest.mark.parametrize(
    ("prompt", "fields", "error", "param"),
    [
        ("", {}, InvalidRequest, "prompt"),
        ("\0", {}, InvalidRequest, "prompt"),
        ("x" * 20, {}, PromptTooLong, "prompt"),
        ("x", {"model": "fkae"}, ModelNotFound, "model"),
        ("x", {"sampling": SamplingFields(min_tokens=20)}, InvalidRequest, "min_tokens"),
    ],
)
def test_what_cannot_be_served_is_refused_before_a_ticket(
    prompt: str, fields: dict[str, Any], error: type[Exception], param: str
) -> None:
    async def test() -> None:
        async with house() as h:
            with pytest.raises(error) as refused:
                async with h.open(prompt, **fields):
                    pass
            assert refused.value.param == param
            assert not h.engine.started

    run(test)


def test_an_engine_that_was_closed_loses_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: Job) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    async def test() -> None:
        async with house() as h:
            monkeypatch.setattr(h.engine, "start", refuse)
            async with h.open() as first, h.open() as second:
                for generation in (first, second):
                    with pytest.raises(ShuttingDown):
                        await generation.collect()
            await asyncio.sleep(0)  # the place is given back by a callback of the loop
            assert h.load == (0, 0)

    run(test)


def test_several_requests_are_admitted_together_or_not_at_all() -> None:
    async def test() -> None:
        async with house(capacity=1, max_waiting=1) as h:
            requests = [GenerationRequest(id="r", prompt="x") for _ in range(3)]
            with pytest.raises(InvalidRequest, match="2 at most"):
                async with h.service.open_all(requests, CALLER):
                    pass
            async with h.open():
                with pytest.raises(QueueFull):
                    async with h.service.open_all(requests[:2], CALLER):
                        pass
                assert h.load == (1, 0)
            assert len(h.engine.started) == 1, "none of the refused ever started"

    run(test)


def test_events_come_in_the_order_of_the_contract() -> None:
    async def test() -> None:
        async with house() as h, h.open(), h.open() as second:
            stream = second.events()
            assert await anext(stream) == Queued(position=0, eta_seconds=None)
            h.engine.finish(h.engine.running[0])
            h.engine.say(h.engine.running[0], "a")
            h.engine.say(h.engine.running[0], "b")
            h.engine.finish(h.engine.running[0])
            rest = [event async for event in stream]
            assert [type(event) for event in rest] == [Started, Delta, Finish]
            assert rest[1] == Delta("ab", (7, 7)), "two tokens nobody had read yet are one delta"

    run(test)


def test_defaults_are_overridden_by_the_model_and_by_the_request() -> None:
    async def test() -> None:
        async with house() as h:
            async with h.open(
                sampling=SamplingFields(temperature=0.0),
                defaults=SamplingFields(temperature=1.0, max_tokens=3, top_p=0.5),
            ):
                task = h.engine.running[0].task
                assert (task.sampling.temperature, task.sampling.top_p) == (0.0, 0.5)
                assert task.max_tokens == 3
            h.engine.finish_all()
            async with h.open(sampling=SamplingFields(max_tokens=10_000)):
                assert h.engine.running[0].task.max_tokens == 15, "what the context has room for"

    run(test)


@pytest.mark.parametrize(
    ("asked", "defaults", "recommended", "resolved"),
    [
        ({}, {}, {"max_tokens": 7}, {"max_tokens": 7}),
        ({}, {"max_tokens": 5}, {"max_tokens": 7}, {"max_tokens": 5}),
        ({}, {"max_tokens": 9}, {"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 9}, {"max_tokens": 5}, {"max_tokens": 7}, {"max_tokens": 9}),
        ({}, {"max_tokens": 5}, {"min_tokens": 8}, {"min_tokens": 5}),
        ({}, {"temperature": 1.0}, {"temperature": 0.0}, {"temperature": 0.0}),
        ({"temperature": 0.5}, {}, {"temperature": 0.0, "top_p": 0.9}, {"top_p": 0.9}),
    ],
)
def test_a_model_recommends_and_forces_nothing(
    asked: dict[str, Any],
    defaults: dict[str, Any],
    recommended: dict[str, Any],
    resolved: dict[str, Any],
) -> None:
    async def test() -> None:
        async with house() as h:
            h.engine.info = replace(h.engine.info, sampling=SamplingFields(**recommended))
            fields = {"sampling": SamplingFields(**asked), "defaults": SamplingFields(**defaults)}
            async with h.open("x", **fields):
                task = h.engine.started[0].task
                found = {name: getattr(task.sampling, name) for name in resolved}
                assert found == resolved
                assert task.max_tokens == (task.sampling.max_tokens or 19)

    run(test)


def test_the_models_rules_hold_for_every_answer() -> None:
    async def test() -> None:
        async with house() as h:
            rules = AnswerRules(stop=("!",), suppressed=(5,))
            h.engine.info = replace(h.engine.info, rules=rules)
            async with h.open("x", sampling=SamplingFields(stop=("?",))):
                sampling = h.engine.started[0].task.sampling
                assert sampling.stop == ("?", "!")
                assert sampling.logit_bias == ((5, -math.inf),)

    run(test)


def test_draining_refuses_new_work_and_waits_for_the_old() -> None:
    async def test() -> None:
        async with house() as h:
            async with h.open() as generation:
                drain = asyncio.create_task(h.service.drain(5))
                await asyncio.sleep(0)
                with pytest.raises(ShuttingDown):
                    async with h.open():
                        pass
                h.engine.finish(h.engine.running[0])
                await generation.collect()
                assert not drain.done()
            await drain

    run(test)


def test_what_outlives_the_drain_is_told() -> None:
    async def test() -> None:
        async with house() as h, h.open() as running, h.open() as waiting:
            drain = asyncio.create_task(h.service.drain(0.0))
            for generation in (running, waiting):
                last = (await events_of(generation))[-1]
                assert isinstance(last, Failed)
                assert isinstance(last.error, ShuttingDown)
            drain.cancel()

    run(test)


LOOP_SECONDS = 0.02
"""The event loop's timers come by then, as they all do at once after a pause."""


async def let_timers_come() -> None:
    for _ in range(5):
        await asyncio.sleep(LOOP_SECONDS)


def test_a_pause_uses_up_no_deadline_and_no_wait_for_a_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation_module, "DEADLINE_GRACE_SECONDS", 0.0)

    async def test() -> None:
        clock = ManualClock()
        async with (
            house(clock=clock, wait=3 * LOOP_SECONDS) as h,
            h.open(timeout_seconds=2 * LOOP_SECONDS) as running,
            h.open() as waiting,
        ):
            await let_timers_come()
            assert running.terminal is waiting.terminal is None
            clock.now += 2 * LOOP_SECONDS
            assert (await running.collect()).finish.reason is FinishReason.TIMEOUT
            assert waiting.terminal is None
            clock.now += LOOP_SECONDS
            with pytest.raises(WaitTimeout):
                await waiting.collect()

    run(test)


def test_a_pause_uses_up_no_drain() -> None:
    async def test() -> None:
        clock = ManualClock()
        async with house(clock=clock) as h, h.open() as generation:
            drain = asyncio.create_task(h.service.drain(LOOP_SECONDS))
            await let_timers_come()
            assert generation.terminal is None
            clock.now += LOOP_SECONDS
            last = (await events_of(generation))[-1]
            assert isinstance(last, Failed)
            drain.cancel()

    run(test)


def test_loading_and_broken_models_are_503_with_a_reason() -> None:
    async def test() -> None:
        engines = {"a": FakeEngine(), "b": FakeEngine(load_error=ModelBroken("no weights"))}
        registry = Registry([ModelSpec("a"), ModelSpec("b")])
        loader = Loader(registry, lambda spec: engines[spec.name])
        service = Service(registry, loader, Limits(1, 1.0, 1.0), Recorder(Metrics()))
        loader.start()
        with pytest.raises(ModelLoading) as loading:
            async with service.open(GenerationRequest(id="r", prompt="x"), CALLER):
                pass
        assert loading.value.retry_after_seconds
        await loader.loaded()
        with pytest.raises(ModelBroken, match="no weights"):
            async with service.open(GenerationRequest(id="r", prompt="x", model="b"), CALLER):
                pass
        async with service.open(GenerationRequest(id="r", prompt="x"), CALLER):
            engines["a"].finish_all()
        await loader.close()
        assert all(engine.is_closed for engine in engines.values())

    run(test)


def test_a_prompt_that_was_estimated_costs_what_it_turned_out_to_have() -> None:
    async def test() -> None:
        async with house() as h:
            charged: list[int] = []
            async with h.open("hello") as generation:
                generation._place._charge = charged.append  # type: ignore[assignment]
                [job] = h.engine.running
                assert generation.prompt_tokens == 5
                h.engine.say(job, "x")
                job.prompt_tokens = 3
                h.engine.finish(job)
                assert generation.prompt_tokens == 3
            assert charged == [3 + 1 - 5]
            assert h.sample("llmserve_prompt_tokens_total") == 3

    run(test)
