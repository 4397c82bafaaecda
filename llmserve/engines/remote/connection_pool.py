"""Connections to upstreams, kept for the next request: httpx's transport for answers of thousands
of small pieces.

httpx's own parses HTTP in Python and looks at every idle connection for every request; with some
hundred streams that costs more than all the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Final

import httpx

from llmserve.engines.remote.http_connection import HTTPConnection

IDLE_SECONDS: Final = 4.0
"""That a connection is kept without a request: less than the 5 s that Uvicorn keeps it."""
PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


class ConnectionPool(httpx.AsyncBaseTransport):
    """As many connections as there are requests at once. Owned by the event loop."""

    def __init__(
        self, tls: ssl.SSLContext | None, connect_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._clock = clock
        self._idle: defaultdict[Origin, list[HTTPConnection]] = defaultdict(list)
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it; returns once the head of the response is there.

        Raises:
            httpx.TransportError: as `HTTPConnection.ask`, or nobody can be reached.
        """
        origin = _origin(request.url)
        connection = self._kept(origin) or await self._connect(origin)
        try:
            await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        stream = _Body(connection, lambda: self._keep(origin, connection))
        return httpx.Response(connection.status, headers=connection.headers, stream=stream)

    async def aclose(self) -> None:
        """Close what is idle; what is under way is its reader's to close."""
        self._is_closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _kept(self, origin: Origin) -> HTTPConnection | None:
        """The one that was used last, as the others are older."""
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            is_fresh = self._clock() - connection.idle_since < IDLE_SECONDS
            if connection.is_open and is_fresh:
                return connection
            connection.close()
        return None

    def _keep(self, origin: Origin, connection: HTTPConnection) -> None:
        if self._is_closed or not connection.may_be_kept:
            connection.close()
            return
        connection.idle_since = self._clock()
        self._idle[origin].append(connection)

    async def _connect(self, origin: Origin) -> HTTPConnection:
        scheme, host, port = origin
        tls = self._tls if scheme == "https" else None
        try:
            async with asyncio.timeout(self._connect_seconds):
                streams = await asyncio.open_connection(host, port, ssl=tls)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("it takes too long to connect") from error
        except OSError as error:  # of TLS, too
            raise httpx.ConnectError(str(error) or type(error).__name__) from error
        return HTTPConnection(*streams)


class _Body(httpx.AsyncByteStream):
    """A response's body; closing it before its end closes the connection."""

    def __init__(self, connection: HTTPConnection, give_back: Callable[[], None]) -> None:
        self._connection = connection
        self._give_back: Callable[[], None] | None = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._connection.next_piece():
            yield piece

    async def aclose(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


def _origin(url: httpx.URL) -> Origin:
    return url.scheme, url.raw_host.decode("ascii").strip("[]"), url.port or PORTS[url.scheme]
