"""A client that leaves frees its place, in every phase, within a second."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server, running_server
from websockets.asyncio.client import connect

ENDLESS = {"prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": True, "timeout": 60}
SECOND = 1.0

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """One place to run and two to wait; every test leaves all of them free."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = {"max_running": 1, "max_waiting": 2, "keepalive_seconds": 0.1}
    with running_server(folder, tiny_model, **settings) as server:
        yield server


class RawClient:
    """An HTTP client that leaves when it likes."""

    def __init__(self, server: Server, path: str, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.socket.sendall(head.encode() + content)

    def read_until(self, marker: bytes) -> bytes:
        received = b""
        while marker not in received:
            part = self.socket.recv(65536)
            assert part, f"closed before {marker!r}: {received!r}"
            received += part
        return received

    def leave(self) -> None:
        self.socket.close()


def test_leaving_while_queued(tiny: Server) -> None:
    first = RawClient(tiny, "/generate", ENDLESS | {"stream": True})
    first.read_until(b"token")
    for stream in (True, False):
        second = RawClient(tiny, "/generate", ENDLESS | {"stream": stream})
        tiny.wait_for_load(1, 1)
        second.leave()
        assert tiny.wait_for_load(1, 0) < SECOND
    first.leave()
    assert tiny.wait_for_load(0, 0) < SECOND


def test_a_queued_stream_tells_its_position(tiny: Server) -> None:
    first = RawClient(tiny, "/generate", ENDLESS | {"stream": True})
    first.read_until(b"token")
    second = RawClient(tiny, "/generate", ENDLESS | {"stream": True})
    second.read_until(b": queued position=0")
    first.leave()
    second.read_until(b"token")
    second.leave()
    assert tiny.wait_for_load(0, 0) < SECOND


def test_a_queued_stream_of_lines_is_kept_alive_until_its_client_leaves(tiny: Server) -> None:
    first = RawClient(tiny, "/generate", ENDLESS | {"stream": True})
    first.read_until(b"token")
    second = RawClient(tiny, "/api/generate", {"prompt": "Once", "raw": True})
    for _ in range(2):
        second.read_until(b'"response":"","done":false}\n')
    assert tiny.wait_for_load(1, 1) < SECOND
    second.leave()
    assert tiny.wait_for_load(1, 0) < SECOND
    first.leave()
    assert tiny.wait_for_load(0, 0) < SECOND


def test_leaving_before_the_first_token(tiny: Server) -> None:
    for _ in range(5):
        client = RawClient(tiny, "/generate", ENDLESS | {"stream": True})
        client.leave()
    # Those that came in are counted by now or never will be; all of them must go.
    assert tiny.wait_for_load(0, 0) < SECOND


@pytest.mark.parametrize("path", ["/generate", "/v1/completions"])
def test_leaving_while_decoding(tiny: Server, path: str) -> None:
    generated = tiny.metric("llmserve_generation_tokens_total")
    cancelled = tiny.metric("llmserve_request_cancelled_total")
    client = RawClient(tiny, path, ENDLESS | {"stream": True})
    client.read_until(b"data: {")
    client.leave()
    assert tiny.wait_for_load(0, 0) < SECOND
    generated = tiny.metric("llmserve_generation_tokens_total") - generated
    assert 0 < generated < 480, "the engine must have stopped early"
    assert tiny.metric("llmserve_request_cancelled_total") == cancelled + 1


def test_leaving_a_request_that_is_not_streamed(tiny: Server) -> None:
    generated = tiny.metric("llmserve_generation_tokens_total")
    client = RawClient(tiny, "/generate", ENDLESS)
    tiny.wait_for_load(1, 0)
    client.leave()
    assert tiny.wait_for_load(0, 0) < SECOND
    assert tiny.metric("llmserve_generation_tokens_total") < generated + 480


def test_leaving_a_request_of_several_choices(tiny: Server) -> None:
    client = RawClient(tiny, "/v1/completions", ENDLESS | {"n": 3, "stream": True})
    client.read_until(b"data: {")
    tiny.wait_for_load(1, 2)
    client.leave()
    assert tiny.wait_for_load(0, 0) < SECOND


def test_closing_a_websocket(tiny: Server) -> None:
    async def leave_midway() -> None:
        async with connect(tiny.url.replace("http", "ws") + "/ws") as ws:
            for name in "ab":
                await ws.send(json.dumps(ENDLESS | {"id": name}))
            while json.loads(await asyncio.wait_for(ws.recv(), 20))["type"] != "token":
                pass

    asyncio.run(leave_midway())
    assert tiny.wait_for_load(0, 0) < SECOND


def test_full_is_429_with_retry_after_and_ends_when_somebody_leaves(tiny: Server) -> None:
    rejected = tiny.metric("llmserve_requests_rejected_total", reason="queue_full")
    clients = [RawClient(tiny, "/generate", ENDLESS | {"stream": True}) for _ in range(3)]
    tiny.wait_for_load(1, 2)
    refused = RawClient(tiny, "/generate", ENDLESS)
    answer = refused.read_until(b'"queue_full"').lower()
    assert b"429" in answer.partition(b"\r\n")[0]
    assert b"retry-after: " in answer
    for client in clients:
        client.leave()
    assert tiny.wait_for_load(0, 0) < SECOND
    assert tiny.metric("llmserve_requests_rejected_total", reason="queue_full") == rejected + 1


def test_a_silent_stream_is_kept_alive_by_comments(tiny: Server) -> None:
    first = RawClient(tiny, "/generate", ENDLESS | {"stream": True})
    first.read_until(b"token")
    waiting = RawClient(tiny, "/v1/completions", ENDLESS | {"stream": True})
    waiting.read_until(b": keep-alive\n")
    first.leave()
    waiting.leave()
    assert tiny.wait_for_load(0, 0) < SECOND


def test_a_silent_message_is_kept_alive_by_pings(tiny: Server) -> None:
    first = RawClient(tiny, "/generate", ENDLESS | {"stream": True})
    first.read_until(b"token")
    asked = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    waiting = RawClient(tiny, "/v1/messages", asked)
    received = waiting.read_until(b'event: ping\ndata: {"type":"ping"}\n\n')
    assert b"message_start" not in received
    first.leave()
    waiting.read_until(b"message_stop")
    assert tiny.wait_for_load(0, 0) < SECOND
