"""A small OpenAI-like server whose answers a test scripts. (Not a test.)"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

Script = Callable[[dict[str, Any]], list[bytes] | bytes]
"""From a request's body to the events of its answer, or to a whole raw response."""

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def refusal(status: int, code: str) -> bytes:
    body = json.dumps({"error": {"code": code, "message": "no"}}).encode()
    return b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def words(count: int, *, usage: bool = True, ends: bool = True) -> list[bytes]:
    """A completion of so many events, one token each."""
    events = [event({"choices": [{"text": " word", "finish_reason": None}]}) for _ in range(count)]
    if ends:
        events.append(event({"choices": [{"text": "", "finish_reason": "length"}]}))
        if usage:
            told = {"prompt_tokens": 7, "completion_tokens": count}
            events.append(event({"choices": [], "usage": told}))
        events.append(b"data: [DONE]\n\n")
    return events


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def embeddings(body: dict[str, Any], vector: list[float] | str) -> bytes:
    """The same embedding for each input; a word is a token."""
    data = [{"index": i, "embedding": vector} for i in range(len(body["input"]))]
    tokens = sum(len(text.split()) for text in body["input"])
    return whole(json.dumps({"data": data, "usage": {"prompt_tokens": tokens}}).encode())


class OpenAIServer:
    """Answers by `script`; keeps what it was asked, and how many connections it saw."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = [{"id": "first"}, {"id": "second"}]
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line.split(":")[1])
                    for line in head.splitlines()
                    if line.lower().startswith("content-length")
                )
                body = await reader.readexactly(length)
                if head.startswith("GET /v1/models"):
                    writer.write(whole(json.dumps({"data": self.models}).encode()))
                    continue
                self.asked.append(json.loads(body))
                answer = self.script(self.asked[-1])
                if isinstance(answer, bytes):
                    writer.write(answer)
                    continue
                writer.write(OK)
                for part in answer:
                    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                    await writer.drain()
                if not answer or answer[-1] != b"data: [DONE]\n\n":
                    break  # hangs up in the middle
                writer.write(b"0\r\n\r\n")
        writer.close()


@contextlib.asynccontextmanager
async def openai_server(script: Script) -> AsyncIterator[OpenAIServer]:
    """Listening on a free loopback port."""
    it = OpenAIServer(script)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
