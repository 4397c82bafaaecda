"""The real nginx with scripts/deploy/nginx/grpc.conf, in front of a server in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from bounded import run
from grpc_desk import Desk, Opening, events_of, kinds, opening, refusal, trailers
from proxy import DEPLOY, Proxy, running_proxy
from server import free_port

from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub

HELLO = pb.GenerateRequest(text="hello")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Opening:
    return opening(monkeypatch)


@contextlib.asynccontextmanager
async def behind_nginx(folder: Path, address: str) -> AsyncIterator[Any]:
    """What calls the server at this address through nginx."""
    port = free_port()
    text = (DEPLOY / "nginx" / "grpc.conf").read_text()
    for old, new in {
        "server llmserve:9000": f"server {address}",
        "listen 9443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/tls/": f"{folder}/tls/",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "grpc.conf").write_text(text)
    last = "gzip off;"
    changes = {last: f"include {folder}/grpc.conf; {last}"}
    proxy: Proxy
    with contextlib.ExitStack() as stack:
        started = running_proxy(folder, [free_port()], **changes)
        proxy = await asyncio.to_thread(stack.enter_context, started)
        assert proxy.port
        trust = grpc.ssl_channel_credentials((folder / "tls" / "server.crt").read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{port}", trust) as channel:
            yield GenerationStub(channel)


def gone(d: Desk) -> bool:
    return bool(d.engine.running[0].is_cancelled)


async def until(d: Desk) -> None:
    while not gone(d):
        await asyncio.sleep(0.001)


def test_refusals_come_through_and_nginx_has_statuses_of_its_own(
    desk: Opening, tmp_path: Path
) -> None:
    async def test() -> None:
        async with desk(api_keys=("k1",)) as d:
            async with behind_nginx(tmp_path, d.address) as stub:
                error = await refusal(stub.Generate(HELLO))
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert trailers(error)["llmserve-error-code"] == "invalid_api_key"
                large = pb.GenerateRequest(text="a" * (4 * 2**20 + 1))
                key = [("x-api-key", "k1")]
                error = await refusal(stub.Generate(large, metadata=key))
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            async with behind_nginx(tmp_path, f"127.0.0.1:{free_port()}") as stub:
                error = await refusal(stub.Generate(HELLO))
                assert error.code() is grpc.StatusCode.UNAVAILABLE

    run(test)


def test_tokens_come_one_by_one_and_a_cancel_goes_through(desk: Opening, tmp_path: Path) -> None:
    async def test() -> None:
        async with desk() as d, behind_nginx(tmp_path, d.address) as stub:
            call = stub.Generate(HELLO)
            assert kinds([await call.read()]) == ["started"]
            [job] = d.engine.running
            for letter in "abc":
                d.engine.say(job, letter)
                assert (await call.read()).delta.text == letter
            call.cancel()
            await until(d)
            d.engine.finish(job)
            again = stub.Generate(HELLO)
            await again.read()
            d.engine.finish_all()
            assert kinds(await events_of(again)) == ["finish"]

    run(test)
