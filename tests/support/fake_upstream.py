"""An OpenAI-compatible upstream whose every byte a test decides; it keeps what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

HELLO = [{"delta": {"role": "assistant", "content": ""}}, {"delta": {"content": "Hel"}},
         {"delta": {"content": "lo"}}, {"delta": {}, "finish_reason": "stop"}]  # fmt: skip
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}


@dataclass
class Connection:
    """One request and how it is answered."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    has_said: bool = False
    was_left: asyncio.Event = field(default_factory=asyncio.Event)

    def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        """Headers of a body that ends with the connection."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def refuse(self, status: int, error: dict[str, Any] | None = None, **headers: str) -> None:
        self.head(status, "application/json", **headers)
        self.writer.write(json.dumps({"error": error or {"message": "no"}}).encode())

    def raw(self, data: bytes) -> None:
        self.writer.write(data)
        self.has_said = True

    def say(self, choice: dict[str, Any]) -> None:
        """One chunk with this choice."""
        self.raw(b"data: %s\n\n" % json.dumps({"choices": [{"index": 0} | choice]}).encode())

    def end(self, usage: dict[str, Any] | None = None) -> None:
        told = {"choices": [], "usage": usage or USAGE}
        self.raw(b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(told).encode())

    def drop(self) -> None:
        """As when the process is killed."""
        self.writer.transport.abort()

    async def left(self) -> None:
        """Wait until the client hangs up."""
        with contextlib.suppress(ConnectionError):
            assert await self.reader.read(1) == b""
        self.was_left.set()


Script = Callable[[Connection], Awaitable[None]]


async def hello(connection: Connection) -> None:
    """The whole of a short answer."""
    connection.head()
    for choice in HELLO:
        connection.say(choice)
    connection.end()


class FakeUpstream:
    """`scripts` answer one request each, in order; then `otherwise` does."""

    def __init__(
        self, *scripts: Script, owner: str = "llmserve", otherwise: Script = hello
    ) -> None:
        self.scripts = list(scripts)
        self.otherwise = otherwise
        self.asked: list[Connection] = []
        self.models: Any = {"data": [{"id": "m", "owned_by": owner, "max_model_len": 100}]}
        self.models_status = 200
        self.health: tuple[int, Any] = (200, {"status": "ready", "models": []})
        self.health_asked: list[str] = []
        self.url = ""
        self._server: asyncio.Server | None = None
        self._port = 0

    async def listen(self) -> None:
        """On a free port, or where it listened before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Nothing listens there any more; open connections go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split(" ")[1]
            pairs = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in pairs}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            body = json.loads(content) if content else {}
            connection = Connection(path, headers, body, reader, writer)
            await self._answer(connection)
            await writer.drain()
        writer.close()

    async def _answer(self, connection: Connection) -> None:
        if connection.headers.get("content-length"):
            self.asked.append(connection)
            script = self.scripts.pop(0) if self.scripts else self.otherwise
            await script(connection)
            return
        status, told = self.models_status, self.models
        if connection.path != "/v1/models":
            self.health_asked.append(connection.path)
            status, told = self.health
        connection.head(status, "application/json")
        connection.writer.write(json.dumps(told).encode())


@contextlib.asynccontextmanager
async def listening(*upstreams: FakeUpstream) -> AsyncIterator[None]:
    """All of them, on free loopback ports."""
    for upstream in upstreams:
        await upstream.listen()
    try:
        yield
    finally:
        for upstream in upstreams:
            await upstream.stop()
