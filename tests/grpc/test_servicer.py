"""Calls over a real connection to a fake engine: ways out first, then answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest
from bounded import run
from fake_encoder import FakeEncoder
from fake_engine import TalkingEngine
from grpc_desk import Desk, Opening, events_of, kinds, refusal, trailers

from llmserve.errors import GenerationFailed
from llmserve.proto.v1 import generation_pb2 as pb

pytestmark = pytest.mark.usefixtures("no_thread_left")

HELLO = pb.GenerateRequest(text="hello")


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def running(d: Desk, count: int = 1) -> None:
    await until(lambda: len(d.engine.running) == count)


@pytest.mark.parametrize("spoken", ["", "a"])
def test_a_call_that_is_cancelled_frees_its_slot(desk: Opening, spoken: str) -> None:
    async def test() -> None:
        async with desk() as d:
            call = d.stub.Generate(HELLO)
            assert kinds([await call.read()]) == ["started"]
            [job] = d.engine.running
            if spoken:
                d.engine.say(job, spoken)
                assert (await call.read()).delta.text == spoken
            call.cancel()
            await until(lambda: job.is_cancelled)
            d.engine.finish(job)
            assert d.load == (0, 0)
            await until(lambda: d.sample("llmserve_grpc_requests_total", status="CANCELLED") == 1)
            assert d.sample("llmserve_request_cancelled_total") == 1

    run(test)


def test_a_call_that_is_cancelled_while_it_waits_gives_up_its_place(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            first = d.stub.Generate(HELLO)
            await running(d)
            second = d.stub.Generate(HELLO)
            event = await second.read()
            assert (kinds([event]), event.queued.position) == (["queued"], 0)
            assert d.load == (1, 1)
            second.cancel()
            await until(lambda: d.load == (1, 0))
            d.engine.finish_all()
            assert kinds(await events_of(first)) == ["started", "finish"]

    run(test)


def test_a_client_that_goes_away_cancels_its_calls(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d, grpc.aio.insecure_channel(d.address) as other:
            call = other.unary_stream(
                "/llmserve.v1.Generation/Generate",
                request_serializer=pb.GenerateRequest.SerializeToString,
                response_deserializer=pb.GenerationEvent.FromString,
            )(HELLO)
            await call.read()
            await other.close(None)
            await until(lambda: d.engine.running[0].is_cancelled)

    run(test)


def test_the_deadline_of_the_call_ends_it(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            error = await refusal(d.stub.Generate(HELLO, timeout=0.1))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await until(lambda: d.engine.started[0].is_cancelled)
            await until(
                lambda: d.sample("llmserve_grpc_requests_total", status="DEADLINE_EXCEEDED") == 1
            )

    run(test)


def test_a_timeout_of_the_request_leaves_what_there_is(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            call = d.stub.Generate(
                pb.GenerateRequest(text="hello", options=pb.Options(timeout_seconds=0.05))
            )
            await call.read()
            d.engine.say(d.engine.running[0], "a")
            *deltas, last = await events_of(call)
            assert [event.delta.text for event in deltas] == ["a"]
            assert last.finish.reason == pb.Finish.REASON_TIMEOUT
            assert last.finish.usage.completion_tokens == 1
            assert await call.code() is grpc.StatusCode.OK

    run(test)


def test_a_failure_in_mid_stream_is_a_last_message_and_a_status(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            call = d.stub.Generate(HELLO)
            await call.read()
            [job] = d.engine.running
            d.engine.say(job, "a")
            assert (await call.read()).delta.text == "a"
            d.engine.finish(job, GenerationFailed("the engine broke", param="prompt"))
            last = await call.read()
            assert last.failed == pb.Failed(
                code="generation_failed",
                message="the engine broke",
                param="prompt",
                usage=pb.Usage(prompt_tokens=5, completion_tokens=1),
            )
            error = await refusal(call)
            assert (error.code(), error.details()) == (
                grpc.StatusCode.INTERNAL,
                "the engine broke",
            )
            assert trailers(error)["llmserve-error-code"] == "generation_failed"

    run(test)


def test_a_bug_of_ours_is_internal_and_says_nothing_of_itself(
    desk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with desk() as d:
            monkeypatch.setattr(type(d.engine), "prepare", lambda *_: 1 / 0)
            error = await refusal(d.stub.Generate(HELLO, metadata=[("x-request-id", "mine")]))
            assert error.code() is grpc.StatusCode.INTERNAL
            assert "division" not in str(error.details())
            assert trailers(error)["x-request-id"] == "mine"

    run(test)


def test_a_full_queue_is_exhausted(desk: Opening) -> None:
    async def test() -> None:
        async with desk(max_waiting=1) as d:
            calls = [d.stub.Generate(HELLO) for _ in range(2)]
            for call in calls:
                await call.read()
            error = await refusal(d.stub.Generate(HELLO))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert trailers(error)["llmserve-error-code"] == "queue_full"
            assert d.sample("llmserve_requests_rejected_total", reason="queue_full") == 1
            for call in calls:
                call.cancel()
            await until(lambda: d.engine.running[0].is_cancelled)

    run(test)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (pb.GenerateRequest(), "prompt"),
        (pb.GenerateRequest(text="a\0"), "prompt"),
        (pb.GenerateRequest(text="a", model="other"), "model"),
        (
            pb.GenerateRequest(text="a", options=pb.Options(sampling=pb.Sampling(temperature=9))),
            "options.sampling.temperature",
        ),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_by_name(
    desk: Opening, request_: pb.GenerateRequest, param: str
) -> None:
    async def test() -> None:
        async with desk() as d:
            error = await refusal(d.stub.Generate(request_))
            is_unknown = param == "model"
            assert error.code() is (
                grpc.StatusCode.NOT_FOUND if is_unknown else grpc.StatusCode.INVALID_ARGUMENT
            )
            assert trailers(error)["llmserve-error-param"] == param
            assert d.load == (0, 0)

    run(test)


def test_a_chat_for_a_model_that_encodes_is_an_invalid_argument(desk: Opening) -> None:
    async def test() -> None:
        async with desk(FakeEncoder()) as d:
            error = await refusal(d.stub.Generate(pb.GenerateRequest(text="a")))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "does not generate text; what it can do: embeddings" in error.details()
            assert trailers(error)["llmserve-error-param"] == "model"
            [told] = (await d.stub.ListModels(pb.ListModelsRequest())).models
            assert list(told.capabilities) == ["embeddings"]

    run(test)


def test_a_client_that_reads_nothing_is_cut_off(desk: Opening) -> None:
    async def test() -> None:
        async with desk(send_timeout_seconds=0.2) as d:
            call = d.stub.Generate(HELLO)
            await call.read()
            [job] = d.engine.running
            while not job.is_cancelled:
                d.engine.say(job, "a" * 100_000)
                await asyncio.sleep(0.001)
            d.engine.finish(job)
            assert d.load == (0, 0)
            await refusal(call)

    run(test)


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
            assert dict(await call.initial_metadata())["x-request-id"] == "mine"
            assert await call.code() is grpc.StatusCode.OK
            assert d.load == (0, 0)

    run(test)


def test_a_chat_with_log_probabilities_by_an_alias(desk: Opening) -> None:
    async def test() -> None:
        async with desk(TalkingEngine()) as d:
            options = pb.Options(sampling=pb.Sampling(logprobs=0))
            message = pb.Message(role=pb.Message.ROLE_USER, content="hello")
            call = d.stub.Chat(pb.ChatRequest(model="nick", messages=[message], options=options))
            events = await events_of(call)
            [told, _] = events[1].delta.logprobs
            assert told.token == pb.TokenLogprob(token_id=97, logprob=-0.5, text="a", utf8=b"a")
            assert events[0].started.prompt_tokens == 1

    run(test)


def test_a_large_request_is_translated_beside_the_event_loop(
    desk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        moved: list[object] = []
        to_thread = asyncio.to_thread

        async def spy(work: Callable[..., object], *arguments: object) -> object:
            moved.append(work)
            return await to_thread(work, *arguments)

        monkeypatch.setattr("llmserve.grpc.servicer.asyncio.to_thread", spy)
        async with desk(TalkingEngine()) as d:
            await events_of(d.stub.Generate(HELLO))
            assert moved == []
            error = await refusal(d.stub.Generate(pb.GenerateRequest(text="a" * 300_000)))
            assert trailers(error)["llmserve-error-code"] == "context_length_exceeded"
            assert len(moved) == 1

    run(test)


def test_models_are_told_to_those_who_may_use_them(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            await until(lambda: d.container.loader.is_settled)
            listed = await d.stub.ListModels(pb.ListModelsRequest())
            [model] = listed.models
            assert (model.name, list(model.aliases), model.status) == ("fake", ["nick"], "ready")
            assert model.max_context == 20
            assert "completions" in model.capabilities

    run(test)
