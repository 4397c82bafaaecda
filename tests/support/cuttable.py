"""A TCP relay whose connections a test cuts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Cuttable:
    """`address` leads to the other one, until it is cut."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        """Reset every connection that is open."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._address.partition(":")
        there, back = await asyncio.open_connection(host, int(port))
        self._writers += [writer, back]
        with contextlib.suppress(OSError):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def cuttable(address: str) -> AsyncIterator[tuple[Cuttable, str]]:
    """A relay to this address, and its own."""
    line = Cuttable(address)
    server = await asyncio.start_server(line.relay, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield line, f"{host}:{port}"
    finally:
        server.close()
        line.cut()
