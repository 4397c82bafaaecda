"""gzip, decompressed as it comes and up to a bound: a bomb costs what a plain body may cost."""

from __future__ import annotations

import zlib
from typing import Final

from llmserve.errors import InvalidRequest

WITH_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS
MAX_MEMBERS: Final = 64
"""Of one file. Empty ones cost time here that no limit on bytes sees; clients send one."""


class Gunzip:
    """One gzip file of up to `max_bytes` decompressed bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self._members = 1
        self._member = zlib.decompressobj(WITH_GZIP_HEADER)
        self._has_begun = False

    def feed(self, data: bytes) -> bytes | None:
        """What these bytes decompress to; `None` once that is over the bound, and for good.

        Raises:
            InvalidRequest: this is no gzip.
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
