"""The transport of httpx's client: connections that end, are kept, or are left; then bodies of each
framing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import trustme
from bounded import run
from manual_clock import ManualClock

from llmserve.engines.remote.connection_pool import IDLE_SECONDS, ConnectionPool
from llmserve.engines.remote.http_connection import MOST_HEAD_BYTES

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """Answers each request with the next of these bytes; `None` hangs up."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.heads: list[bytes] = []
        self.left = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0) if self.answers else OK
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if b"close" in answer:
                    break
        self.left.set()
        writer.close()


@contextlib.asynccontextmanager
async def pool_over(
    peer: Peer, clock: Callable[[], float] | None = None, **tls: Any
) -> AsyncIterator[httpx.AsyncClient]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=tls.get("server"))
    port = server.sockets[0].getsockname()[1]
    peer.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/x?y=1"
    pool = ConnectionPool(tls.get("client"), 2.0, clock or ManualClock())
    async with httpx.AsyncClient(transport=pool, timeout=None) as client:
        yield client
    server.close()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: close\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\nX-close",
        b"garbage close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-close: " + b"x" * (2 * MOST_HEAD_BYTES),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: close\r\n\r\nabc",
        CHUNKED + b"5\r\nab",
        CHUNKED + b"zz\r\n",
    ],
)
def test_a_response_that_is_not_whole_is_an_error(answer: bytes | None) -> None:
    async def test() -> None:
        peer = Peer(answer)
        async with pool_over(peer) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(peer.url)

    run(test)


def test_nobody_there_is_told_as_such() -> None:
    async def test() -> None:
        peer = Peer()
        async with pool_over(peer):
            pass
        pool = ConnectionPool(None, 2.0, ManualClock())
        async with httpx.AsyncClient(transport=pool) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(peer.url)

    run(test)


def test_a_connection_is_kept_for_the_next_request_while_it_is_fresh() -> None:
    async def test() -> None:
        peer, clock = Peer(), ManualClock()
        async with pool_over(peer, clock) as client:
            for _ in range(3):
                assert (await client.get(peer.url)).content == b"ok"
            assert peer.connections == 1
            clock.now += IDLE_SECONDS
            await client.get(peer.url)
            assert peer.connections == 2
        assert peer.heads[0].startswith(b"GET /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:")

    run(test)


def test_one_that_the_other_side_closed_is_not_used_again() -> None:
    async def test() -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        async with pool_over(peer) as client:
            assert (await client.get(peer.url)).content == b"ok"
            assert (await client.get(peer.url)).content == b"ok"
            assert peer.connections == 2

    run(test)


def test_leaving_a_body_before_its_end_closes_the_connection() -> None:
    async def test() -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        async with pool_over(peer) as client:
            async with client.stream("GET", peer.url) as response:
                async for piece in response.aiter_raw():
                    assert piece == b"ab"
                    break
            await peer.left.wait()
            await client.get(peer.url)
            assert peer.connections == 2

    run(test)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (CHUNKED + b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\nTrailer: t\r\n\r\n", b"abc"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\nX: close\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)  # fmt: skip
def test_bodies_of_each_framing(answer: bytes, body: bytes) -> None:
    async def test() -> None:
        peer = Peer(answer)
        async with pool_over(peer) as client:
            response = await client.get(peer.url)
            assert response.content == body
            assert "link" not in response.headers
            assert "trailer" not in response.headers

    run(test)


def test_a_certificate_of_another_authority_is_refused() -> None:
    async def test() -> None:
        authority = trustme.CA()
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        ours = ssl.create_default_context()
        peer = Peer()
        async with pool_over(peer, server=server, client=ours) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(peer.url)
            authority.configure_trust(ours)
            assert (await client.get(peer.url)).content == b"ok"

    run(test)
