"""Reads HTTP off a socket, for clients that no library would be."""

from __future__ import annotations

import contextlib
import json
import socket


class Answers:
    """Responses that tell their length, and 101, one after another."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def next(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next one."""
        self.until(b"\r\n\r\n")
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        length = int(headers.get("content-length", 0)) if has_body else 0
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return int(lines[0].split()[1]), headers, body

    def error(self) -> tuple[int, str]:
        """Status and code of an error, which has the one shape."""
        status, headers, body = self.next()
        assert headers["x-request-id"]
        assert headers["content-type"] == "application/json"
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return status, str(error["code"])

    def until(self, words: bytes, times: int = 1) -> None:
        """Wait for these, so often."""
        while self._received.count(words) < times:
            self._receive()

    def rest(self) -> bytes:
        """What comes until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            while part := self._connection.recv(65536):
                self._received += part
        return self._received

    def _receive(self) -> None:
        part = self._connection.recv(65536)
        assert part, f"the server closed after {self._received!r}"
        self._received += part
