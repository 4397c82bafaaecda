"""A handshake whose application says nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from bounded import run
from uvicorn.config import Config
from uvicorn.server import ServerState

from llmserve.workers.websocket_protocol import bounded_websocket

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Transport:
    """Takes what is written, and tells who waits when it is closed."""

    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True
        self.closed = asyncio.Event()

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else None

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    def abort(self) -> None:
        self.closed.set()


async def silent(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("a bug")


def opened(app: Any, seconds: float) -> tuple[Any, Transport]:
    made = bounded_websocket(
        max_header_bytes=1000, header_timeout_seconds=seconds, send_timeout_seconds=60
    )
    config = Config(app, log_config=None)
    config.load()
    protocol, transport = made(config, ServerState(), {}), Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    assert not transport.is_reading, "no frame may come yet"
    return protocol, transport


def told(transport: Transport) -> tuple[int, str]:
    head, _, body = transport.written.partition(b"\r\n\r\n")
    assert b"x-request-id" in head
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize("sent", [b"", HANDSHAKE[:40], HANDSHAKE])
def test_a_handshake_that_nobody_answers_ends_in_time(sent: bytes) -> None:
    async def test() -> None:
        protocol, transport = opened(silent, 0.05)
        protocol.data_received(sent)
        await transport.closed.wait()
        assert told(transport) == (503, "wait_timeout")
        protocol.shutdown()  # as at SIGTERM, while the answer is on its way
        protocol.connection_lost(None)
        for task in protocol.tasks:
            task.cancel()

    run(test, seconds=10)


@pytest.mark.parametrize(
    ("app", "sent", "expected"),
    [
        (silent, b"x" * 9000 + b"\r\n\r\n", (400, "invalid_request")),
        (silent, b"GET /ws HTTP/1.1\r\nContent-Length: 3\r\n\r\n", (400, "invalid_request")),
        (broken, HANDSHAKE, (500, "internal_error")),
    ],
)
def test_a_handshake_that_fails_is_answered_once(
    app: Any, sent: bytes, expected: tuple[int, str]
) -> None:
    async def test() -> None:
        protocol, transport = opened(app, 60)
        protocol.data_received(sent)
        await transport.closed.wait()
        assert told(transport) == expected
        assert transport.written.count(b"HTTP/1.1") == 1
        protocol.shutdown()
        protocol.connection_lost(None)

    run(test, seconds=10)


def test_a_shutdown_within_a_handshake_is_told() -> None:
    async def test() -> None:
        protocol, transport = opened(silent, 60)
        protocol.data_received(HANDSHAKE)
        protocol.shutdown()
        assert transport.is_closing()
        assert told(transport) == (503, "shutting_down")
        protocol.connection_lost(None)
        for task in protocol.tasks:
            task.cancel()

    run(test, seconds=10)
