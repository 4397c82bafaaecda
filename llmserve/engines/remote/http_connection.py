"""One HTTP/1.1 connection of a client: a request out, a response in, piece by piece."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import httptools
import httpx

MOST_HEAD_BYTES: Final = 2**17
READ_BYTES: Final = 2**16


class HTTPConnection:
    """Owned by the event loop; one request at a time.

    Attributes:
        idle_since: a clock reading.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._is_head_due = True
        self._is_over = False
        self._says_more_may_come = False
        self._head_bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether it can take a request: the other side has not hung up."""
        return not self._writer.is_closing() and not self._reader.at_eof()

    @property
    def may_be_kept(self) -> bool:
        """Whether the response is over and another may follow."""
        return self._is_over and self._says_more_may_come and self.is_open

    async def ask(self, request: httpx.Request) -> None:
        """Send a request and read the head of its response into `status` and `headers`.

        Raises:
            httpx.TransportError: the connection ended, or what came is no response.
        """
        self._parser = httptools.HttpResponseParser(self)
        self.headers, self._body = [], []
        self._is_head_due, self._is_over, self._head_bytes = True, False, 0
        self._says_more_may_come = False
        target = request.url.raw_path
        head = [b"%s %s HTTP/1.1" % (request.method.encode(), target)]
        head += [b"%s: %s" % pair for pair in request.headers.raw]
        try:
            self._writer.write(b"\r\n".join(head) + b"\r\n\r\n" + request.content)
            await self._writer.drain()
        except OSError as error:
            raise httpx.WriteError(str(error) or "the connection ended") from error
        while self._is_head_due:
            size = await self._feed()
            self._head_bytes += size
            if not size:
                raise httpx.RemoteProtocolError("the connection ended without a response")
            if self._head_bytes > MOST_HEAD_BYTES and self._is_head_due:
                raise httpx.RemoteProtocolError("the head of the response has no end")

    async def next_piece(self) -> bytes:
        """What came next of the body; empty at its end.

        Raises:
            httpx.TransportError: the connection ended before the body did.
        """
        while not self._body and not self._is_over:
            if not await self._feed():
                self._end_with_connection()
        piece = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return piece

    def close(self) -> None:
        """At once, whatever is under way: the other side notices."""
        self._writer.transport.abort()

    async def _feed(self) -> int:
        try:
            data = await self._reader.read(READ_BYTES)
            if data:
                self._parser.feed_data(data)
        except OSError as error:
            raise httpx.ReadError(str(error) or "the connection was reset") from error
        except httptools.HttpParserError as error:
            raise httpx.RemoteProtocolError(f"what came is no HTTP: {error}") from error
        return len(data)

    def _end_with_connection(self) -> None:
        names = {name.lower() for name, _ in self.headers}
        if names & {b"content-length", b"transfer-encoding"}:
            raise httpx.RemoteProtocolError("the connection ended in the middle of the response")
        self._is_over = True

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the head's, or of a trailer."""
        if self._is_head_due:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there; one of an interim response (1xx) is left out."""
        self.status = self._parser.get_status_code()
        if self.status < HTTPStatus.OK:
            self.headers = []
        else:
            self._is_head_due = False

    def on_body(self, body: bytes) -> None:
        """The next bytes, without the framing."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Also called for interim responses."""
        self._is_over = not self._is_head_due
        self._says_more_may_come = self._parser.should_keep_alive()
