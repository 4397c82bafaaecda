"""Calls over a real connection to a fake engine: ways out first, then answers."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from bounded import run
from fake_engine import FakeEngine, TalkingEngine
from grpc_desk import Desk, Opening, events_of, kinds, refusal, trailers

from llmserve.domain import TokenLogprobs
from llmserve.errors import GenerationFailed
from llmserve.proto.v1 import generation_pb2 as pb

pytestmark = pytest.mark.usefixtures("no_thread_left")

HELLO = pb.GenerateRequest(text="hello")


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.001)


async def running(d: Desk, count: int = 1) -> None:
    await until(lambda: len(d.engine.running) == count)


def test_an_answer_comes_event_by_event(desk: Opening) -> None:
    async def test() -> None:
        async with desk(TalkingEngine()) as d:
            call = d.stub.Generate(HELLO, metadata=[("x-request-id", "mine")])
            events = await events_of(call)
            assert kinds(events) == ["started", "delta", "finish"]
            assert events[0].started == pb.Started(prompt_tokens=5, model="fake")
            assert (events[1].delta.text, list(events[1].delta.token_ids)) == ("ab", [7, 7])
            assert events[2].finish.reason == pb.Finish.REASON_STOP
            assert events[2].finish.usage == pb.Usage(prompt_tokens=5, completion_tokens=2)
            assert ("x-request-id", "mine") in tuple(await call.initial_metadata())
            assert await call.code() is grpc.StatusCode.OK
            assert d.load == (0, 0)

    run(test)


def test_cancel(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            call = d.stub.Generate(HELLO)
            await call.read()
            await running(d)
            call.cancel()
            await until(lambda: d.engine.running[0].is_cancelled)
            d.engine.finish_all()
            assert d.load == (0, 0)

    run(test)
