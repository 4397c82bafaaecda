"""One streamed generation, recorded as it arrives."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import httpx

from llmserve.doctor.answer import Refused
from llmserve.doctor.pace import Arrival
from llmserve.doctor.target import GENERATION_SECONDS, READ_SECONDS, Target

REQUEST_ID: Final = "X-Request-ID"
TERMINAL: Final = (b"event: done", b"event: error")
KEEP_ALIVE: Final = b": keep-alive"
MAX_SECONDS: Final = GENERATION_SECONDS + READ_SECONDS
MAX_BYTES: Final = 16 * 2**20
"""Longer than any generation that is asked for."""


@dataclass(slots=True)
class Recording:
    """What arrived. Owned by the coroutine that records it; not changed afterwards.

    Attributes:
        keep_alives: when the server's keep-alive comments arrived.
        is_whole: the stream ended with its last event.
        cut: how it ended otherwise.
    """

    headers: httpx.Headers
    arrivals: list[Arrival] = field(default_factory=list)
    keep_alives: list[float] = field(default_factory=list)
    num_events: int = 0
    is_whole: bool = False
    cut: str | None = None
    seconds: float = 0.0
    _tail: bytes = b""

    @property
    def keep_alive_seconds(self) -> float | None:
        """The interval of the comments; the first one counts from what arrived before it."""
        if not self.keep_alives:
            return None
        before = [a.seconds for a in self.arrivals if a.seconds < self.keep_alives[0]]
        times = [*before[-1:], *self.keep_alives]
        gaps = [later - sooner for sooner, later in pairwise(times)]
        return min(gaps, default=None)

    def add(self, part: bytes) -> None:
        """Count the events and comments in some decoded bytes."""
        blocks = (self._tail + part).split(b"\n\n")
        self._tail = blocks.pop()
        for block in blocks:
            if block.startswith(b"id:"):
                block = block.partition(b"\n")[2]
            if block.startswith(KEEP_ALIVE):
                self.keep_alives.append(self.seconds)
            elif block.startswith(TERMINAL):
                self.is_whole = True
            elif block.startswith(b"data:"):
                self.num_events += 1


async def record(
    client: httpx.AsyncClient,
    target: Target,
    max_tokens: int,
    *,
    encoding: str = "identity",
    request_id: str | None = None,
) -> Recording:
    """Stream so many tokens and record when what arrives.

    Raises:
        Refused: the answer is not a stream.
        httpx.HTTPError: there was no answer.
    """
    headers = {"Accept-Encoding": encoding}
    if request_id is not None:
        headers[REQUEST_ID] = request_id
    body = target.prompt(max_tokens) | {"stream": True}
    begun = time.perf_counter()
    async with client.stream("POST", "/generate", json=body, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            await response.aread()
            raise Refused.by(response)
        recording = Recording(response.headers)
        try:
            await _read(response, recording, begun)
        except (httpx.TransportError, zlib.error) as error:
            recording.cut = type(error).__name__
        recording.seconds = time.perf_counter() - begun
    if not recording.is_whole and recording.cut is None:
        recording.cut = "the connection ended before the last event"
    return recording


async def _read(response: httpx.Response, recording: Recording, begun: float) -> None:
    decode = _decoder(response.headers.get("content-encoding", "identity"))
    num_bytes = 0
    async for part in response.aiter_raw():
        recording.seconds = time.perf_counter() - begun
        recording.arrivals.append(Arrival(recording.seconds, len(part)))
        if decode is not None:
            recording.add(decode(part))
        num_bytes += len(part)
        if num_bytes > MAX_BYTES or recording.seconds > MAX_SECONDS:
            recording.cut = "it did not end and was abandoned"
            return
    if decode is None:
        recording.is_whole = True  # as far as can be known


def _decoder(encoding: str) -> Callable[[bytes], bytes] | None:
    """Undoes a proxy's compression of the stream; `None` for an encoding that we cannot decode."""
    match encoding:
        case "identity":
            return bytes
        case "gzip":
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress
        case _:
            return None
