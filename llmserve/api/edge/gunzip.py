"""gzip, decompressed as it arrives and up to a bound: a bomb costs no more than a plain body."""

from __future__ import annotations

import zlib
from typing import Final

from llmserve.errors import InvalidRequest

WITH_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS
MAX_MEMBERS: Final = 64
"""In one file. Empty ones take time that no limit on bytes bounds; clients send one member."""


class Gunzip:
    """One gzip file of up to `max_bytes` decompressed bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self._members = 1
        self._member = zlib.decompressobj(WITH_GZIP_HEADER)
        self._has_begun = False

    def feed(self, data: bytes) -> bytes | None:
        """What these bytes decompress to; always `None` once the file is over the bound.

        Raises:
            InvalidRequest: this is not gzip.
        """
        parts = []
        while data and self._room >= 0:
            self._has_begun = True
            if self._member.eof:
                self._begin_member()
            try:
                parts.append(self._member.decompress(data, self._room + 1))
            except zlib.error:
                raise InvalidRequest(
                    "the body is not the gzip that its Content-Encoding says; compress it anew",
                    param="Content-Encoding",
                ) from None
            self._room -= len(parts[-1])
            data = self._member.unused_data
        return b"".join(parts) if self._room >= 0 else None

    def check_complete(self) -> None:
        """The file must have ended.

        Raises:
            InvalidRequest: it was cut short.
        """
        if self._has_begun and not self._member.eof:
            raise InvalidRequest(
                "the gzip body is cut short; send all of it", param="Content-Encoding"
            )

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise InvalidRequest(
                f"the gzip body has over {MAX_MEMBERS} members; compress it as one",
                param="Content-Encoding",
            )
        self._member = zlib.decompressobj(WITH_GZIP_HEADER)
