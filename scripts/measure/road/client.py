"""A client that costs little: one body, posted again and again over connections that are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


class Refused(Exception):
    """An answer is not a 200; the message is its beginning."""


@dataclass(frozen=True, slots=True)
class Call:
    """A body for a path. With `chunked` the answer is a stream."""

    path: str
    body: Mapping[str, Any]
    chunked: bool = False


async def post(url: str, call: Call, count: int, connections: int) -> None:
    """Post it so many times in all, over so many connections at once.

    Raises:
        Refused: an answer is an error.
    """
    where = urlsplit(url)
    payload = json.dumps(dict(call.body)).encode()
    head = (
        f"POST {call.path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    message = head.encode() + payload
    left = iter(range(count))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            for _ in left:
                writer.write(message)
                await _answer(reader, is_chunked=call.chunked)
        finally:
            writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(count, connections)):
            group.create_task(connection())


async def _answer(reader: asyncio.StreamReader, *, is_chunked: bool) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Refused((head + await reader.read(500)).decode(errors="replace"))
    if is_chunked:
        end = b""
        while not end.endswith(LAST_CHUNK):
            piece = await reader.read(65_536)
            if not piece:
                raise Refused("the stream broke off")
            end = (end + piece)[-len(LAST_CHUNK) :]
        return
    names = (line.partition(b":") for line in head.split(b"\r\n"))
    length = next(int(value) for name, _, value in names if name.lower() == b"content-length")
    await reader.readexactly(length)
