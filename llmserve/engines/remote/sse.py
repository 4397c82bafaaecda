"""Server-sent events as an upstream writes them: bytes in, the data of whole events out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MOST_BYTES: Final = 8 * 2**20
"""Of one event: a token with its 20 likeliest takes two kilobytes."""


class TooLarge(Exception):
    """An event without an end."""


class SSEReader:
    """Comments, names and ids of events are left out: these streams put all they say in `data`."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of each event that is whole by now.

        Raises:
            TooLarge: one grows beyond what any token needs.
        """
        lines = (self._rest + chunk).split(b"\n") if self._rest else chunk.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) + self._size > MOST_BYTES:
            raise TooLarge
        for line in lines:
            text = line.removesuffix(b"\r")
            if not text:
                if self._data:
                    yield b"\n".join(self._data)
                    self._data, self._size = [], 0
            elif text.startswith(b"data:"):
                data = text[5:].removeprefix(b" ")
                self._data.append(data)
                self._size += len(data)
                if self._size > MOST_BYTES:
                    raise TooLarge
