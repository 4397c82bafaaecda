"""One connection to the server: httptools on a bare protocol, with as little work as possible. On
the same machine, a client's work would be measured as the server's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, cast

import httptools

from llmserve.bench.target import Target

CONNECT_SECONDS: Final = 10.0

OnData = Callable[[bytes, float], None]


class Response:
    """Status and body of one exchange; `is_whole` once its end was seen."""

    def __init__(self, on_data: OnData) -> None:
        self.status = 0
        self.is_whole = False
        self.may_reuse = False
        self.on_data = on_data
        self.ended = asyncio.Event()


class Connection(asyncio.Protocol):
    """Sends one request after another; each answer's bytes are passed on as they arrive."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._response: Response | None = None
        self.is_open = False

    @classmethod
    async def to(cls, target: Target) -> Connection:
        """Connect.

        Raises:
            OSError: the server cannot be reached, or TLS fails.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                cls, target.host, target.port, ssl=target.tls
            )
        return connection

    async def exchange(self, request: bytes, on_data: OnData) -> Response:
        """Send a request and wait for the end of its answer, or of the connection.

        `on_data` gets pieces of the body and when they arrived, by `time.perf_counter`.
        """
        assert self._transport is not None, "not connected"
        self._response = response = Response(on_data)
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        await response.ended.wait()
        if not (response.is_whole and response.may_reuse):
            self.close()
        return response

    def close(self) -> None:
        """Close the connection at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def eof_received(self) -> None:
        """An answer without a length ends with the connection."""
        if self._response is not None and self._parser is not None:
            self._response.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.is_open = False
        if self._response is not None:
            self._response.ended.set()

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        assert self._response is not None
        self._response.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Called by httptools."""
        assert self._response is not None
        self._response.on_data(body, self._now)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        assert self._response is not None
        self._response.is_whole = True
        self._response.may_reuse = self._parser.should_keep_alive()
        self._response.ended.set()
