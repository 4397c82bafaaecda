"""An upstream whose every byte a test decides: it answers when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Upstream:
    """Streams one event per permit to each client, and ends after `events`."""

    def __init__(self, events: int = 3) -> None:
        self.permits = asyncio.Semaphore(0)
        self.open = 0
        self._events = events
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /stream"):
                    await self._stream(writer)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        writer.write(HEAD)
        for number in range(self._events):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await self.permits.acquire()
        writer.write(b"0\r\n\r\n")


@contextlib.asynccontextmanager
async def running_upstream(events: int = 3) -> AsyncIterator[Upstream]:
    """Listening on a free loopback port."""
    upstream = Upstream(events)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
