"""httptools' parser, for a server that can upgrade to WebSocket and to nothing else."""

from __future__ import annotations

from typing import Any, Final, Protocol

import httptools

UPGRADE: Final = b"upgrade"


class Upgradable(Protocol):
    """What the parser asks of its connection, beside httptools' callbacks."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def ignores_upgrade(self) -> bool:
        """Whether the request whose headers just came is served as if it asked for nothing."""
        ...


class RequestParser:
    """Reads a request that asks for another protocol than WebSocket as if it did not ask.

    For llhttp HTTP ends with the headers of such a request, and what follows, its body and all
    later requests, is no HTTP. A server is free to ignore an upgrade (RFC 9110, section 7.8):
    then a new llhttp reads the same headers without `Upgrade`, and everything that follows.
    """

    def __init__(self, connection: Upgradable) -> None:
        self._connection = connection
        self._llhttp = self._begin()
        self.rest = b""
        """What came behind a request that is upgraded."""

    def feed_data(self, data: bytes) -> None:
        """Parse what came.

        Raises:
            HttpParserError: it is no HTTP.
            HttpParserUpgrade: from here on it is another protocol.
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
        """Whether the connection is to go on after the request."""
        return bool(self._llhttp.should_keep_alive())

    def get_http_version(self) -> str:
        """Of the request, as in `1.1`."""
        return str(self._llhttp.get_http_version())

    def get_method(self) -> bytes:
        """Of the request, as in `GET`."""
        return bytes(self._llhttp.get_method())

    def _begin(self) -> Any:
        llhttp = httptools.HttpRequestParser(self._connection)
        # As Uvicorn has it: the first of several requests is answered though it says `close`.
        llhttp.set_dangerous_leniencies(lenient_data_after_close=True)
        return llhttp

    def _begin_again(self, rest: bytes) -> bytes:
        """The request without its wish, and what follows."""
        lines = [b"%b %b HTTP/%b" % (self.get_method(), self._connection.url,
                                     self.get_http_version().encode())]  # fmt: skip
        lines += [b"%b: %b" % header for header in self._connection.headers if header[0] != UPGRADE]
        self._llhttp = self._begin()
        return b"".join((b"\r\n".join(lines), b"\r\n\r\n", rest))
