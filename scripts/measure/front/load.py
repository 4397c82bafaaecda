"""Chats that are streamed through a front, by a client that only counts."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import uvloop

from measure.front.upstream import MODEL

END = b"data: [DONE]"


@dataclass(frozen=True, slots=True)
class Load:
    """So many streams at once, `requests` in all, each with so many tokens."""

    streams: int
    requests: int
    tokens: int


class Unanswered(Exception):
    """A request was not answered to its end; the message has what came."""


def send(port: int, load: Load) -> int:
    """Returns how many tokens came in events of their own; a busy front merges some.

    Raises:
        Unanswered: one was refused, or cut.
    """
    return uvloop.run(_send(port, load))


async def _send(port: int, load: Load) -> int:
    left = iter(range(load.requests))
    body = json.dumps(
        {
            "model": MODEL, "stream": True, "max_tokens": load.tokens,
            "messages": [{"role": "user", "content": "Say something. " * 20}],
        }
    ).encode()  # fmt: skip
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    message = head.encode() + body

    async def one_after_another() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return sum([await _exchange(reader, writer, message) for _ in left])
        finally:
            writer.close()

    return sum(await asyncio.gather(*(one_after_another() for _ in range(load.streams))))


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
) -> int:
    writer.write(message)
    events, tail = 0, b""
    while END not in tail or not tail.endswith(b"0\r\n\r\n"):
        came = await reader.read(2**16)
        if not came or b"HTTP/1.1 4" in came or b"HTTP/1.1 5" in came:
            raise Unanswered((tail + came)[-300:].decode(errors="replace"))
        events += came.count(b'"content":" word')
        tail = (tail + came)[-64:]
    return events
