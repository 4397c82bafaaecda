"""Requests that a tokenizer answers: refusals first, then what becomes known of them."""

from __future__ import annotations

import asyncio

import pytest
from bounded import run
from service.held_tokenizer import House, house, key
from service.house import house as counted_house

from llmserve.domain import Caller, Scope
from llmserve.errors import (
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    ShuttingDown,
    WaitTimeout,
)
from llmserve.service.reading import Reading

pytestmark = pytest.mark.usefixtures("no_thread_left")


def reading(
    prompt: str = "hi", model: str | None = None, seconds: float | None = None
) -> Reading[list[int]]:
    return Reading("r", model, lambda tokenizer: tokenizer.encode(prompt), len(prompt), seconds)


async def hold(h: House, caller: Caller, seconds: float | None = None) -> asyncio.Task[object]:
    task = asyncio.create_task(h.service.read(reading("wait", seconds=seconds), caller))
    while not h.tokenizer.begun.is_set():
        await asyncio.sleep(0.001)
    return task


def test_it_counts_as_a_request_and_no_token() -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(requests=1, tokens=100)
            model, ids = await h.service.read(reading(), caller)
            assert (model.spec.name, ids) == ("fake", [104, 105])
            assert h.left(caller) == (0, 100)
            with pytest.raises(RateLimited):
                await h.service.read(reading("again"), caller)
            assert h.tokenizer.asked == ["hi"]

    run(test)


def test_after_its_deadline_the_place_of_the_key_is_held_by_the_thread() -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(concurrency=1)
            held = await hold(h, caller, seconds=0.02)
            with pytest.raises(WaitTimeout, match="not read within"):
                await held
            with pytest.raises(RateLimited, match="open requests"):
                await h.service.read(reading(), caller)
            await h.let_go()
            await h.service.read(reading(), caller)

    run(test)


def test_a_drain_ends_it_and_refuses_others() -> None:
    async def test() -> None:
        async with house() as h:
            held = await hold(h, Caller())
            h.service.begin_drain()
            with pytest.raises(ShuttingDown):
                await held
            with pytest.raises(ShuttingDown):
                await h.service.read(reading(), Caller())

    run(test)


def test_keys_are_for_models_and_for_generating() -> None:
    async def test() -> None:
        async with house() as h:
            for caller in (
                Caller("ann", models=frozenset({"other"})),
                Caller("bob", scopes=frozenset({Scope.METRICS})),
            ):
                with pytest.raises(Forbidden):
                    await h.service.read(reading(), caller)
                with pytest.raises(Forbidden):
                    await h.service.awaken("fake", caller, None)
            with pytest.raises(ModelNotFound):
                await h.service.read(reading(model="nobody"), Caller())
            assert h.tokenizer.asked == []

    run(test)


def test_what_the_work_raises_comes_out_and_everything_is_given_back() -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(concurrency=1)
            for _ in range(2):
                with pytest.raises(InvalidRequest, match="no NUL"):
                    await h.service.read(reading("\0"), caller)

    run(test)


def test_series_of_generations_leave_it_out() -> None:
    async def test() -> None:
        async with counted_house() as h:
            await h.service.read(reading(), Caller())
            assert h.sample("llmserve_key_requests_total") == 1
            assert h.sample("llmserve_e2e_request_latency_seconds_count") == 0
            assert h.sample("llmserve_requests_finished_total") == 0
            assert h.sample("llmserve_prompt_tokens_total") == 0
            with pytest.raises(ModelNotFound):
                await h.service.read(reading(model="nobody"), Caller())
            assert h.sample("llmserve_requests_rejected_total") == 1

    run(test)


def test_awakening_gives_a_model_that_is_ready() -> None:
    async def test() -> None:
        async with house() as h:
            assert (await h.service.awaken(None, Caller(), 1.0)).name == "fake"

    run(test)
