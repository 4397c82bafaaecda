"""A request's body: how large it may be, how long it may take to arrive, and its encoding."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from llmserve.api.edge.gunzip import Gunzip
from llmserve.clock import awake_clock
from llmserve.errors import BodyTimeout, BodyTooLarge, UnsupportedEncoding
from llmserve.timer import awake_timeout

MAX_DIGITS: Final = 19
"""Digits of a length that are read; Python refuses to parse a number with thousands of them."""

MAX_SHOWN: Final = 100
GZIP: Final = frozenset({"gzip", "x-gzip"})
PLAIN: Final = frozenset({"", "identity"})


class BoundedBody:
    """One request's `receive`. Once the body is complete, waiting means waiting for a hang-up.

    Nothing is checked before the first call: a route that reads no body has no limits on it.

    Raises:
        UnsupportedEncoding: it is compressed in a way that we do not read.
        BodyTooLarge: the declared length is over the limit, or the body is, compressed or
            decompressed.
        BodyTimeout: it is not complete in time.
        InvalidRequest: it is not in the encoding that it declares.
    """

    def __init__(
        self, headers: Headers, receive: Receive, max_bytes: int, timeout_seconds: float
    ) -> None:
        self._headers = headers
        self._receive = receive
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._gunzip: Gunzip | None = None
        self._received = 0
        self._is_complete = False
        self._deadline: float | None = None

    async def __call__(self) -> Message:
        """The next part of the body, decompressed."""
        if self._is_complete:
            return await self._receive()
        if self._deadline is None:
            self._deadline = awake_clock() + self._timeout_seconds
            self._check_head()
        try:
            async with awake_timeout(self._deadline - awake_clock()):
                part = await self._receive()
        except TimeoutError:
            raise BodyTimeout(
                f"the body took longer than {self._timeout_seconds:g} s; send it faster"
            ) from None
        self._is_complete = not part.get("more_body", False)
        self._received += len(part.get("body", b""))
        if self._received > self._max_bytes:
            raise self._too_large
        if self._gunzip is not None and part["type"] == "http.request":
            part["body"] = await self._decompressed(part.get("body", b""), self._gunzip)
        return part

    async def _decompressed(self, data: bytes, gunzip: Gunzip) -> bytes:
        # A few bytes may become megabytes, and other clients' streams must not wait.
        body = await asyncio.to_thread(gunzip.feed, data)
        if body is None:
            raise self._too_large
        if self._is_complete:
            gunzip.check_complete()
        return body

    def _check_head(self) -> None:
        encoding = ", ".join(self._headers.getlist("content-encoding")).strip().lower()
        if encoding in GZIP:
            self._gunzip = Gunzip(self._max_bytes)
        elif encoding not in PLAIN:
            raise UnsupportedEncoding(
                f"a body of the encoding {encoding[:MAX_SHOWN]!r} is not read; send it plain or "
                "as gzip",
                param="Content-Encoding",
            )
        if _declared_bytes(self._headers) > self._max_bytes:
            raise self._too_large

    @property
    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body is over this server's limit of {self._max_bytes:,} bytes; shorten it"
        )


def _declared_bytes(headers: Headers) -> int:
    """Content-Length, cut to a number that is still over every limit; 0 without one."""
    digits = headers.get("content-length", "").lstrip("0")
    return int(digits[:MAX_DIGITS]) if digits.isdecimal() else 0
