"""A front over backs that are spoken to over gRPC, all in this process: ways out first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from bounded import run
from cuttable import cuttable
from fake_engine import TalkingEngine
from grpc_desk import Desk, Opening, events_of, kinds, opening, refusal, trailers
from server import free_port

from llmserve.domain import ModelSpec, RemoteSpec, UpstreamState
from llmserve.engines.options import EngineOptions
from llmserve.engines.remote.engine import RemoteEngine
from llmserve.errors import GenerationFailed, ModelBroken
from llmserve.proto.v1 import generation_pb2 as pb

pytestmark = pytest.mark.usefixtures("no_thread_left")

HELLO = pb.GenerateRequest(text="hello")
FAST = {"connect_seconds": 2.0, "health_seconds": 0.1, "retry_share": 1.0}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Opening:
    return opening(monkeypatch)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def front_engine(*addresses: str, scheme: str = "grpc", **fields: Any) -> RemoteEngine:
    urls = tuple(f"{scheme}://{address}" for address in addresses)
    remote = RemoteSpec(urls, "fake", **FAST | fields)
    spec = ModelSpec("fake", remote=remote)
    return RemoteEngine(spec, EngineOptions(fetch=lambda *_: Path()))


@contextlib.asynccontextmanager
async def front(desk: Opening, engine: RemoteEngine, **fields: Any) -> AsyncIterator[Desk]:
    async with desk(engine, **fields) as opened:
        await opened.container.loader.loaded()
        yield opened


def states(engine: RemoteEngine) -> list[UpstreamState]:
    return [upstream.state for upstream in engine.info.upstreams]


def test_cancel_goes_on_to_the_back(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as back, front(desk, front_engine(back.address)) as d:
            call = d.stub.Generate(HELLO)
            await call.read()
            await until(lambda: back.engine.running)
            call.cancel()
            await until(lambda: back.engine.running[0].is_cancelled)
            back.engine.finish_all()
            await until(lambda: d.load == back.load == (0, 0))

    run(test)


def test_a_deadline_leaves_what_there_is_and_frees_the_back(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as back, front(desk, front_engine(back.address)) as d:
            timed = pb.GenerateRequest(text="hello", options=pb.Options(timeout_seconds=0.3))
            call = d.stub.Generate(timed)
            await until(lambda: back.engine.running)
            back.engine.say(back.engine.running[0], "a")
            events = await events_of(call)
            assert "".join(event.delta.text for event in events) == "a"
            assert events[-1].finish.reason == pb.Finish.REASON_TIMEOUT
            assert events[-1].finish.usage.completion_tokens == 1
            await until(lambda: back.engine.running[0].is_cancelled)

    run(test)


@pytest.mark.parametrize("spoken", ["", "a"])
def test_a_failure_there_is_one_here(desk: Opening, spoken: str) -> None:
    async def test() -> None:
        async with desk() as back, front(desk, front_engine(back.address)) as d:
            call = d.stub.Generate(HELLO)
            await until(lambda: back.engine.running)
            if spoken:
                back.engine.say(back.engine.running[0], spoken)
            back.engine.finish(back.engine.running[0], GenerationFailed("it broke"))
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.INTERNAL
            assert "it broke" in str(error.details())
            assert len(back.engine.started) == 1, "it may have been generated: not sent again"

    run(test)


def test_what_the_back_refuses_is_refused_with_the_same_words(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as back, front(desk, front_engine(back.address)) as d:
            too_long = await refusal(d.stub.Generate(pb.GenerateRequest(text="a" * 30)))
            assert too_long.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert trailers(too_long)["llmserve-error-code"] == "context_length_exceeded"
            bias = pb.Options(sampling=pb.Sampling(logit_bias={500: 1.0}))
            error = await refusal(d.stub.Generate(pb.GenerateRequest(text="a", options=bias)))
            assert trailers(error)["llmserve-error-param"] == "logit_bias"
            assert states(d.engine) == [UpstreamState.UP]  # type: ignore[arg-type]

    run(test)


def test_a_full_back_says_when_to_come_again(desk: Opening) -> None:
    async def test() -> None:
        async with (
            desk(max_waiting=1) as back,
            front(desk, front_engine(back.address)) as d,
        ):
            calls = [back.stub.Generate(HELLO) for _ in range(2)]
            for call in calls:
                await call.read()
            error = await refusal(d.stub.Generate(HELLO))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert int(trailers(error)["retry-after"]) > 0
            for call in calls:
                call.cancel()
            await until(lambda: back.engine.running[0].is_cancelled)

    run(test)


def test_a_message_too_large_for_the_back_is_the_clients(desk: Opening) -> None:
    async def test() -> None:
        async with (
            desk(max_body_bytes=1024) as back,
            front(desk, front_engine(back.address)) as d,
        ):
            error = await refusal(d.stub.Generate(pb.GenerateRequest(text="a" * 2000)))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert trailers(error)["llmserve-error-code"] == "body_too_large"

    run(test)


def test_a_back_that_is_gone_is_not_asked_and_found_again(desk: Opening) -> None:
    async def test() -> None:
        port = free_port()
        async with desk(TalkingEngine()) as other:
            engine = front_engine(f"127.0.0.1:{port}", other.address)
            async with front(desk, engine) as d:
                assert states(engine) == [UpstreamState.DOWN, UpstreamState.UP]
                for _ in range(4):
                    assert kinds(await events_of(d.stub.Generate(HELLO)))[-1] == "finish"
                async with desk(TalkingEngine(), grpc_port=port):
                    await until(lambda: states(engine) == [UpstreamState.UP] * 2)
                await until(lambda: states(engine) == [UpstreamState.DOWN, UpstreamState.UP])
                assert kinds(await events_of(d.stub.Generate(HELLO)))[-1] == "finish"

    run(test)


def test_a_connection_that_breaks_in_mid_stream_is_one_clear_error(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as back, cuttable(back.address) as (line, address):
            engine = front_engine(address)
            async with front(desk, engine) as d:
                call = d.stub.Generate(HELLO)
                await until(lambda: back.engine.running)
                back.engine.say(back.engine.running[0], "a")
                while kinds([await call.read()]) != ["delta"]:
                    pass
                line.cut()
                error = await refusal(call)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert "broke in the middle of the answer" in str(error.details())
                assert len(back.engine.started) == 1, "it is not sent again"
                await until(lambda: back.engine.running[0].is_cancelled)
                back.engine.finish_all()
                # The next one goes over a new connection.
                again = d.stub.Generate(HELLO)
                await until(lambda: back.engine.running)
                back.engine.finish_all()
                assert kinds(await events_of(again))[-1] == "finish"

    run(test)


def test_a_connection_that_breaks_before_a_byte_is_tried_once_more(desk: Opening) -> None:
    async def test() -> None:
        hangs = asyncio.Event()
        async with desk(TalkingEngine()) as back, cuttable(back.address) as (line, address):
            prepare = back.engine.prepare

            async def held(*arguments: Any) -> Any:
                if not hangs.is_set():
                    hangs.set()
                    await asyncio.Event().wait()
                return await prepare(*arguments)

            async with front(desk, front_engine(address)) as d:
                back.engine.prepare = held
                call = d.stub.Generate(HELLO)
                await hangs.wait()
                line.cut()
                assert kinds(await events_of(call))[-1] == "finish"

    run(test)


def test_a_request_that_a_back_refuses_as_it_drains_moves_over(desk: Opening) -> None:
    async def test() -> None:
        async with desk(TalkingEngine()) as first, desk(TalkingEngine()) as second:
            engine = front_engine(first.address, second.address, health_seconds=60.0)
            async with front(desk, engine) as d:
                first.container.service.begin_drain()  # which nobody has looked at
                for _ in range(4):
                    assert kinds(await events_of(d.stub.Generate(HELLO)))[-1] == "finish"
                assert states(engine) == [UpstreamState.DRAINING, UpstreamState.UP]
                assert len(second.engine.started) == 4

    run(test)


def test_a_back_that_drains_is_seen_by_its_health(desk: Opening) -> None:
    async def test() -> None:
        async with desk(TalkingEngine()) as back:
            engine = front_engine(back.address)
            async with front(desk, engine) as d:
                back.container.service.begin_drain()
                await until(lambda: states(engine) == [UpstreamState.DRAINING])
                error = await refusal(d.stub.Generate(HELLO))
                assert error.code() is grpc.StatusCode.UNAVAILABLE

    run(test)


def test_a_back_without_the_model_is_left_out(desk: Opening) -> None:
    async def test() -> None:
        async with desk(TalkingEngine()) as back:
            remote = RemoteSpec((f"grpc://{back.address}",), "another", **FAST)
            spec = ModelSpec("fake", remote=remote)
            engine = RemoteEngine(spec, EngineOptions(fetch=lambda *_: Path()))
            with pytest.raises(ModelBroken, match=r"does not serve the model|NOT_FOUND"):
                await engine.load(lambda progress: None)
            await engine.close()

    run(test)


def test_a_wrong_key_is_told_to_the_operator_and_not_to_the_client(
    desk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with desk(TalkingEngine(), api_keys=("right",)) as back:
            monkeypatch.setenv("THE_KEY", "right")
            async with front(desk, front_engine(back.address, key_env="THE_KEY")) as d:
                assert kinds(await events_of(d.stub.Generate(HELLO)))[-1] == "finish"
            monkeypatch.setenv("THE_KEY", "wrong")
            engine = front_engine(back.address, key_env="THE_KEY")
            with pytest.raises(ModelBroken, match="UNAUTHENTICATED"):
                await engine.load(lambda progress: None)
            await engine.close()

    run(test)


def test_an_answer_comes_through_with_its_tokens(desk: Opening) -> None:
    async def test() -> None:
        async with (
            desk(TalkingEngine()) as back,
            front(desk, front_engine(back.address)) as d,
        ):
            options = pb.Options(sampling=pb.Sampling(logprobs=0))
            request = pb.GenerateRequest(text="hello", options=options)
            call = d.stub.Generate(request, metadata=[("x-request-id", "mine")])
            events = await events_of(call)
            deltas = [event.delta for event in events if event.WhichOneof("event") == "delta"]
            assert "".join(delta.text for delta in deltas) == "ab"
            assert [i for delta in deltas for i in delta.token_ids] == [97, 98]
            told = [told.token for delta in deltas for told in delta.logprobs]
            assert told[0] == pb.TokenLogprob(token_id=97, logprob=-0.5, text="a", utf8=b"a")
            assert events[-1].finish.usage == pb.Usage(prompt_tokens=5, completion_tokens=2)
            assert back.engine.started[0].task.request_id == "mine"

    run(test)


def test_many_at_once_use_several_connections(desk: Opening) -> None:
    async def test() -> None:
        async with (
            desk(TalkingEngine(capacity=64), max_waiting=64) as back,
            front(desk, front_engine(back.address)) as d,
        ):
            answers = await asyncio.gather(*(events_of(d.stub.Generate(HELLO)) for _ in range(40)))
            assert {kinds(events)[-1] for events in answers} == {"finish"}

    run(test)


def test_over_mutual_tls(desk: Opening, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, identity in (("server", "127.0.0.1"), ("client", "front@example.com")):
        own = authority.issue_cert(identity)
        own.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        own.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    served = {
        "grpc_certfile": tmp_path / "server.pem",
        "grpc_keyfile": tmp_path / "server.key",
        "grpc_client_ca_file": tmp_path / "ca.pem",
    }
    trusted = {"ca_file": tmp_path / "ca.pem"}
    own_files = {
        "client_cert_file": tmp_path / "client.pem",
        "client_key_file": tmp_path / "client.key",
    }

    async def test() -> None:
        async with desk(TalkingEngine(), **served) as back:
            engine = front_engine(back.address, scheme="grpcs", **trusted, **own_files)
            async with front(desk, engine) as d:
                assert kinds(await events_of(d.stub.Generate(HELLO)))[-1] == "finish"
            stranger = front_engine(back.address, scheme="grpcs", **trusted)
            with pytest.raises(ModelBroken, match="UNAVAILABLE"):
                await stranger.load(lambda progress: None)
            await stranger.close()
            missing = front_engine(back.address, scheme="grpcs", ca_file=tmp_path / "none.pem")
            with pytest.raises(ModelBroken, match=r"none\.pem cannot be used"):
                await missing.load(lambda progress: None)
            await missing.close()

    run(test)
