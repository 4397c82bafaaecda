"""Keys, ids, sizes and the line that is logged: what every call meets first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from bounded import run
from fake_engine import TalkingEngine
from grpc_desk import Desk, Opening, events_of, kinds, refusal, trailers
from loguru import logger

from llmserve.admission.credential import digest, new_credential
from llmserve.bootstrap import server
from llmserve.proto.v1 import generation_pb2 as pb

HELLO = pb.GenerateRequest(text="hello")


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def key_file(folder: Path, **fields: Any) -> tuple[Path, str]:
    """A key file with one key, and the key."""
    key_id, key = new_credential()
    record = {
        "id": key_id,
        "name": "tester",
        "hash": digest(key).hex(),
        "created_at": datetime.now(UTC).isoformat(),
        **fields,
    }
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": [record]}))
    file.chmod(0o600)
    return file, key


async def raw(d: Desk, message: bytes, **options: Any) -> grpc.aio.AioRpcError:
    """How a call with this message is refused."""
    call = d.channel.unary_stream("/llmserve.v1.Generation/Generate")
    return await refusal(call(message, **options))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ([], "no API key"),
        ([("authorization", "Basic k1")], "no API key"),
        (bearer("k2"), "not valid"),
        ([("x-api-key", "k2")], "not valid"),
    ],
)
@pytest.mark.parametrize("method", ["Generate", "ListModels"])
def test_without_a_key_that_is_known_there_is_no_answer(
    desk: Opening, method: str, metadata: list[tuple[str, str]], words: str
) -> None:
    async def test() -> None:
        async with desk(api_keys=("k1",)) as d:
            request = HELLO if method == "Generate" else pb.ListModelsRequest()
            error = await refusal(getattr(d.stub, method)(request, metadata=metadata))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert words in str(error.details())
            assert trailers(error)["llmserve-error-code"] == "invalid_api_key"
            assert d.load == (0, 0)

    run(test)


def test_of_a_stranger_no_message_is_read(desk: Opening) -> None:
    async def test() -> None:
        async with desk(api_keys=("k1",), max_body_bytes=1024) as d:
            error = await raw(d, b"\xff" * 2000)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED

    run(test)


@pytest.mark.parametrize("metadata", [bearer("k1"), [("x-api-key", "k1")]])
def test_a_key_comes_as_a_bearer_token_or_by_itself(
    desk: Opening, metadata: list[tuple[str, str]]
) -> None:
    async def test() -> None:
        async with desk(TalkingEngine(), api_keys=("k1",)) as d:
            events = await events_of(d.stub.Generate(HELLO, metadata=metadata))
            assert kinds(events)[-1] == "finish"
            assert d.sample("llmserve_key_requests_total", key="key-1") == 1

    run(test)


def test_a_key_needs_the_scope_and_is_limited(desk: Opening, tmp_path: Path) -> None:
    async def test() -> None:
        file, key = key_file(tmp_path, scopes=["metrics"])
        async with desk(TalkingEngine(), keys_file=file) as d:
            error = await refusal(d.stub.Generate(HELLO, metadata=bearer(key)))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert trailers(error)["llmserve-error-code"] == "forbidden"
        file, key = key_file(tmp_path, requests_per_minute=1)
        async with desk(TalkingEngine(), keys_file=file) as d:
            await events_of(d.stub.Generate(HELLO, metadata=bearer(key)))
            error = await refusal(d.stub.Generate(HELLO, metadata=bearer(key)))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert trailers(error)["llmserve-error-code"] == "rate_limit_exceeded"
            assert int(trailers(error)["retry-after"]) > 0
        file, key = key_file(tmp_path, models=["another"])
        async with desk(TalkingEngine(), keys_file=file) as d:
            listed = await d.stub.ListModels(pb.ListModelsRequest(), metadata=bearer(key))
            assert list(listed.models) == []

    run(test)


def test_a_message_that_is_too_large_is_refused(desk: Opening) -> None:
    async def test() -> None:
        async with desk(max_body_bytes=1024) as d:
            error = await refusal(d.stub.Generate(pb.GenerateRequest(text="a" * 2000)))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in str(error.details())
            assert d.load == (0, 0)

    run(test)


def test_a_message_that_is_none_is_refused(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            error = await raw(d, b"\xff\xff")
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert error.details() == "the message cannot be parsed"

    run(test)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_is_bounded_by_what_it_unpacks_to(
    desk: Opening, compression: grpc.Compression
) -> None:
    async def test() -> None:
        async with desk(TalkingEngine(), max_body_bytes=10_000) as d:
            call = d.stub.Generate(HELLO, compression=compression)
            assert kinds(await events_of(call))[-1] == "finish"
            large = pb.GenerateRequest(text="a" * 2_000_000)
            error = await refusal(d.stub.Generate(large, compression=compression))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(test)


def test_a_message_that_does_not_come_is_not_waited_for(desk: Opening) -> None:
    async def test() -> None:
        async with desk(body_timeout_seconds=0.05) as d:
            for method, messages, code in (
                ("Generate", silent(), grpc.StatusCode.DEADLINE_EXCEEDED),
                ("Generate", nothing(), grpc.StatusCode.INVALID_ARGUMENT),
            ):
                call = d.channel.stream_stream(f"/llmserve.v1.Generation/{method}")(messages)
                assert (await refusal(call)).code() is code

    run(test)


async def silent() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def test_an_id_that_cannot_be_logged_is_refused_and_replaced(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            error = await refusal(d.stub.Generate(HELLO, metadata=[("x-request-id", "a b")]))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert len(trailers(error)["x-request-id"]) == 32
            assert trailers(error)["llmserve-error-param"] == "x-request-id"

    run(test)


def test_fields_of_a_newer_client_are_told_or_refused(desk: Opening) -> None:
    newer = HELLO.SerializeToString() + b"\xa2\x06\x01x"  # field 100, a text
    told = pb.GenerateRequest.FromString(newer)

    async def test() -> None:
        async with desk(TalkingEngine()) as d:
            call = d.stub.Generate(told)
            await events_of(call)
            assert dict(await call.trailing_metadata())["x-ignored-fields"] == "#100"
            assert d.sample("llmserve_ignored_fields_total", place="body") == 1
        async with desk(TalkingEngine(), strict_fields=True) as d:
            error = await refusal(d.stub.Generate(told))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "'#100' is not a field" in str(error.details())

    run(test)


def test_an_unknown_method_is_unimplemented(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            call = d.channel.unary_unary("/llmserve.v1.Generation/Embed")
            assert (await refusal(call(b""))).code() is grpc.StatusCode.UNIMPLEMENTED

    run(test)


def test_each_call_is_counted_and_has_one_line(desk: Opening) -> None:
    async def test() -> None:
        lines: list[Any] = []
        sink = logger.add(lambda message: lines.append(message.record), level="INFO")
        try:
            async with desk(TalkingEngine()) as d:
                await events_of(d.stub.Generate(HELLO, metadata=[("x-request-id", "first")]))
                await refusal(d.stub.Generate(pb.GenerateRequest()))
                counted = "llmserve_grpc_requests_total"
                method = "llmserve.v1.Generation/Generate"
                assert d.sample(counted, method=method, status="OK") == 1
                assert d.sample(counted, method=method, status="INVALID_ARGUMENT") == 1
        finally:
            logger.remove(sink)
        good, bad = [line for line in lines if line["message"].startswith("gRPC llmserve")]
        assert good["message"] == "gRPC llmserve.v1.Generation/Generate"
        assert good["extra"].items() >= {
            "status": "OK", "model": "fake", "key": "anonymous", "completion_tokens": 2,
        }.items()  # fmt: skip
        assert bad["extra"].items() >= {
            "status": "INVALID_ARGUMENT", "code": "invalid_request", "param": "prompt",
        }.items()  # fmt: skip

    run(test)


class Tracer:
    """Keeps what it is told of."""

    def __init__(self) -> None:
        self.contexts: list[Any] = []

    def context_from(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("traceparent")

    def record(self, timings: object, moments: object, context: Any) -> None:
        self.contexts.append(context)

    def close(self) -> None:
        pass


def test_a_trace_goes_on(desk: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer()
    monkeypatch.setattr(server, "build_tracer", lambda _: tracer)

    async def test() -> None:
        async with desk(TalkingEngine()) as d:
            await events_of(d.stub.Generate(HELLO, metadata=[("traceparent", "00-ab-cd-01")]))
            await events_of(d.stub.Generate(HELLO))

    run(test)
    assert tracer.contexts == ["00-ab-cd-01", None]


def test_many_calls_on_one_connection_do_not_mix(desk: Opening) -> None:
    async def test() -> None:
        async with desk(TalkingEngine(capacity=4), max_waiting=64) as d:
            calls = [
                d.stub.Generate(HELLO, metadata=[("x-request-id", f"n{n}")]) for n in range(40)
            ]
            for n, call in enumerate(await asyncio.gather(*map(events_of, calls))):
                assert kinds(call)[-1] == "finish"
                assert dict(await calls[n].initial_metadata())["x-request-id"] == f"n{n}"

    run(test)
