"""An upstream instance that keeps what it was asked, and answers one thing or nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY = b"Content-Length: "


class Instance:
    """`heads` are the requests so far; `answer=None` keeps every client waiting."""

    def __init__(self, answer: bytes | None = OK) -> None:
        self.heads: list[str] = []
        self.port = 0
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if BODY in head:
                    await reader.readexactly(int(head.partition(BODY)[2].split()[0]))
                self.heads.append(head.decode())
                if self._answer is not None:
                    writer.write(self._answer)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def running_instance(answer: bytes | None = OK) -> AsyncIterator[Instance]:
    """Listening on a free loopback port."""
    instance = Instance(answer)
    server = await asyncio.start_server(instance.serve, "127.0.0.1", 0)
    instance.port = server.sockets[0].getsockname()[1]
    try:
        yield instance
    finally:
        server.close()
