"""httptools' parser, for a server that can upgrade only to WebSocket."""

from __future__ import annotations

from typing import Any, Final, Protocol

import httptools

UPGRADE: Final = b"upgrade"


class Upgradable(Protocol):
    """What the parser needs from its connection, besides httptools' callbacks."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def ignores_upgrade(self) -> bool:
        """Whether the `Upgrade` header of the request whose headers just came is to be ignored."""
        ...


class RequestParser:
    """Ignores requests to upgrade to a protocol other than WebSocket.

    llhttp stops at the headers of any request for an upgrade and does not parse its body and later
    requests as HTTP. A server is free to ignore an upgrade (RFC 9110, section 7.8): then a new
    llhttp parses the same headers without `Upgrade`, and everything that follows.
    """

    def __init__(self, connection: Upgradable) -> None:
        self._connection = connection
        self._llhttp = self._begin()
        self.rest = b""
        """The bytes that followed the request for an upgrade."""

    def feed_data(self, data: bytes) -> None:
        """Parse the bytes received.

        Raises:
            HttpParserError: they are not HTTP.
            HttpParserUpgrade: the connection is upgraded to WebSocket.
        """
        while True:
            try:
                self._llhttp.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                [place] = upgrade.args
                if not self._connection.ignores_upgrade():
                    self.rest = data[place:]
                    raise
                data = self._begin_again(data[place:])
            else:
                return

    def should_upgrade(self) -> bool:
        """Whether llhttp saw a request for an upgrade."""
        return bool(self._llhttp.should_upgrade())

    def should_keep_alive(self) -> bool:
        """Whether the connection stays open after the request."""
        return bool(self._llhttp.should_keep_alive())

    def get_http_version(self) -> str:
        """The request's HTTP version, such as `1.1`."""
        return str(self._llhttp.get_http_version())

    def get_method(self) -> bytes:
        """The request's method, such as `GET`."""
        return bytes(self._llhttp.get_method())

    def _begin(self) -> Any:
        llhttp = httptools.HttpRequestParser(self._connection)
        # As in Uvicorn: requests that follow one with `Connection: close` are no error.
        llhttp.set_dangerous_leniencies(lenient_data_after_close=True)
        return llhttp

    def _begin_again(self, rest: bytes) -> bytes:
        """The request without its `Upgrade` header, and what follows it."""
        lines = [b"%b %b HTTP/%b" % (self.get_method(), self._connection.url,
                                     self.get_http_version().encode())]  # fmt: skip
        lines += [b"%b: %b" % header for header in self._connection.headers if header[0] != UPGRADE]
        self._llhttp = self._begin()
        return b"".join((b"\r\n".join(lines), b"\r\n\r\n", rest))
