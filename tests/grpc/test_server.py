"""How the server starts, whom it lets in, and how it leaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from bounded import run
from fake_engine import SlowEngine, TalkingEngine
from grpc_desk import Opening, events_of, kinds, refusal, trailers
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from llmserve.bootstrap import server
from llmserve.errors import ConfigurationError
from llmserve.fleet.board import Board, State
from llmserve.fleet.membership import Membership
from llmserve.grpc.options import server_options
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub
from llmserve.settings import Settings
from llmserve.workers.grpc_port import reserved_port

pytestmark = pytest.mark.usefixtures("no_thread_left")

HELLO = pb.GenerateRequest(text="hello")


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_drain_refuses_new_calls_and_lets_running_ones_finish(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            call = d.stub.Generate(HELLO)
            await call.read()
            draining = asyncio.create_task(d.container.service.drain(30))
            await until(lambda: d.container.service.is_draining)
            error = await refusal(d.stub.Generate(HELLO))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert trailers(error)["llmserve-error-code"] == "shutting_down"
            d.engine.finish_all()
            assert kinds(await events_of(call)) == ["finish"]
            await draining

    run(test)


def test_what_is_left_at_the_end_is_told_so_and_watchers_are_sent_away(desk: Opening) -> None:
    async def test() -> None:
        async with desk(drain_timeout_seconds=0.05) as d:
            channel = grpc.aio.insecure_channel(d.address)
            call = GenerationStub(channel).Generate(HELLO)
            await call.read()
            watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            left = asyncio.create_task(events_of(call))
            d.engine.running.clear()  # the engine never lets go
        error = await refusal_of(left)
        assert (error.code(), trailers(error)["llmserve-error-code"]) == (
            grpc.StatusCode.UNAVAILABLE,
            "shutting_down",
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await events_of(watch)
        await channel.close()

    run(test)


async def refusal_of(task: asyncio.Task[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await task
    return caught.value


def test_a_worker_that_retires_sends_new_calls_elsewhere_and_finishes_its_own(
    desk: Opening,
) -> None:
    async def test() -> None:
        async with desk() as d:
            call = d.stub.Generate(HELLO)
            await call.read()
            d.container.service.is_retiring = True
            await until(lambda: not listens(d.address))
            error = await refusal(d.stub.Generate(HELLO))
            # The second is gRPC's own, for a call that comes at the very moment.
            assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
            d.engine.finish_all()
            assert kinds(await events_of(call)) == ["finish"]

    run(test)


def listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


def test_reflection_names_the_services(desk: Opening) -> None:
    async def test() -> None:
        async with desk(api_keys=("k1",)) as d:
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            [answer] = [
                answer
                async for answer in ServerReflectionStub(d.channel).ServerReflectionInfo([asked])
            ]
            assert {service.name for service in answer.list_services_response.service} == {
                "grpc.health.v1.Health",
                "grpc.reflection.v1alpha.ServerReflection",
                "llmserve.v1.Generation",
            }

    run(test)


def certificates(folder: Path) -> tuple[dict[str, Path], trustme.CA]:
    """The settings of a server with TLS, and its authority."""
    authority = trustme.CA()
    own = authority.issue_cert("localhost", "127.0.0.1")
    own.private_key_pem.write_to_path(folder / "key.pem")
    for blob in own.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    return {"grpc_certfile": folder / "cert.pem", "grpc_keyfile": folder / "key.pem"}, authority


async def answer(address: str, credentials: grpc.ChannelCredentials) -> list[str]:
    async with grpc.aio.secure_channel(address, credentials) as channel:
        return kinds(await events_of(GenerationStub(channel).Generate(HELLO, timeout=10)))


def test_with_tls_only_clients_that_trust_the_certificate_and_are_trusted_come_in(
    desk: Opening, tmp_path: Path
) -> None:
    files, authority = certificates(tmp_path)
    clients = trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    mine = clients.issue_cert("client@example.com")
    root = authority.cert_pem.bytes()
    known = grpc.ssl_channel_credentials(
        root, mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes()
    )
    nobody = grpc.ssl_channel_credentials(root)
    mistrustful = grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())

    async def test() -> None:
        async with desk(TalkingEngine(), **files) as d:
            assert await answer(d.address, nobody) == ["started", "delta", "finish"]
            for refused in (answer(d.address, mistrustful), events_of(d.stub.Generate(HELLO))):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await refused
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        async with desk(
            TalkingEngine(), **files, grpc_client_ca_file=tmp_path / "clients.pem"
        ) as d:
            assert await answer(d.address, known) == ["started", "delta", "finish"]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer(d.address, nobody)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert d.sample("llmserve_grpc_requests_total") == 1

    run(test)


def test_a_certificate_that_cannot_be_used_is_named(desk: Opening, tmp_path: Path) -> None:
    async def test() -> None:
        files = {"grpc_certfile": tmp_path / "none.pem", "grpc_keyfile": tmp_path / "none.pem"}
        with pytest.raises(ConfigurationError, match=r"none\.pem cannot be read: No such file"):
            async with desk(**files):
                pass
        (tmp_path / "none.pem").write_text("nothing")
        with pytest.raises(ConfigurationError, match="look at the certificate"):
            async with desk(**files):
                pass

    run(test)


def test_a_port_that_is_taken_is_named(desk: Opening) -> None:
    async def test() -> None:
        listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
                async with desk(grpc_port=port):
                    pass

    run(test)


def test_bounds_come_from_the_settings() -> None:
    options = dict(server_options(Settings(max_body_bytes=5000, grpc_max_streams=7)))
    assert options["grpc.max_receive_message_length"] == 5000
    assert options["grpc.max_concurrent_streams"] == 7
    assert options["grpc.max_connection_age_ms"] == 600_000
    largest = server_options(Settings(request_timeout_seconds=1e9))
    assert all(value < 2**31 for _, value in largest), "gRPC takes 32 bits"


def test_a_worker_that_loads_leaves_calls_to_one_that_serves(
    desk: Opening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    membership = Membership(tmp_path, 1)
    board = Board(tmp_path / "board", 2)
    board.claim().beat(State.READY, 0)
    monkeypatch.setattr(server, "join", lambda *_: membership)
    engine = SlowEngine()

    async def test() -> None:
        with reserved_port(Settings(grpc_port=0)) as port:
            async with desk(engine, grpc_port=port) as d:
                assert not listens(d.address)
                engine.may_load.set()
                call = d.stub.Generate(HELLO, wait_for_ready=True)
                await call.read()
                call.cancel()
                await until(lambda: d.engine.running[0].is_cancelled)

    run(test)
    board.close()
