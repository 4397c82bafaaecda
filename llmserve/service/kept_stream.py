"""A stream whose reader may be cut off and come back: its last frames are kept, and for a while it
goes on without a reader."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from loguru import logger

from llmserve.timer import Timer

RING_BYTES: Final = 64 * 1024
"""Of frames that one stream keeps."""


class KeptStream:
    """Frames, numbered from 1, for one reader at a time. Owned by the event loop.

    A frame that a reader has not taken is never dropped while it is connected: what makes the
    frames waits for it. Without a reader the oldest ones are.
    """

    def __init__(
        self,
        stream_id: str,
        caller: str,
        frames: AsyncGenerator[bytes],
        release: Callable[[], Awaitable[None]],
        away_seconds: float,
        on_end: Callable[[KeptStream], None],
    ) -> None:
        """`release` is awaited when no more frames are made; `on_end` is called when the stream can
        no longer be read, as nobody has read it for `away_seconds`."""
        self.id = stream_id
        self.caller = caller
        self._frames = frames
        self._release = release
        self._away_seconds = away_seconds
        self._on_end = on_end
        self._ring: deque[bytes] = deque()
        self._num_bytes = 0
        self._first = 1
        self._taken = 0
        self._is_over = False
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._reader: object | None = object()  # the first one, who is about to come
        self._timer = Timer(away_seconds, self._nobody_came)
        self._work = asyncio.create_task(self._make(), name=f"stream-{stream_id}")

    @property
    def is_over(self) -> bool:
        """Whether all frames have been made."""
        return self._is_over

    def has(self, after: int) -> bool:
        """Whether a reader who has seen so many frames can go on, with something to come."""
        is_read = self._is_over and after == self._last
        return self._first - 1 <= after <= self._last and not is_read

    async def read(self, after: int) -> AsyncGenerator[tuple[int, bytes]]:
        """Every frame behind `after`, with its number, as they are made; none if there is a gap by
        now. Whoever read before gets no more."""
        if not self.has(after):
            return
        self._reader = reader = object()
        self._taken = after
        self._timer.cancel()
        self._wake()
        try:
            while self._reader is reader:
                self._news.clear()
                if self._taken < self._last:
                    number = self._taken + 1
                    frame = self._ring[number - self._first]
                    yield number, frame
                    if self._reader is reader:
                        self._taken = number
                        self._room.set()
                elif self._is_over:
                    return
                else:
                    await self._news.wait()
        finally:
            if self._reader is reader:
                self._reader = None
                self._room.set()
                self._timer = Timer(self._away_seconds, self._nobody_came)

    async def close(self) -> None:
        """End it now."""
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work
        if not self._is_over:  # the work was cancelled before it began
            await self._finish()
        self._end()

    @property
    def _last(self) -> int:
        return self._first + len(self._ring) - 1

    async def _make(self) -> None:
        try:
            async with contextlib.aclosing(self._frames):
                async for frame in self._frames:
                    self._ring.append(frame)
                    self._num_bytes += len(frame)
                    self._news.set()
                    await self._make_room()
        except Exception:
            logger.exception("stream {} broke off", self.id)
        finally:
            await self._finish()

    async def _finish(self) -> None:
        """What was used is given back, and known, before the reader sees the end."""
        try:
            await self._release()
        finally:
            self._is_over = True
            self._wake()

    async def _make_room(self) -> None:
        while self._num_bytes > RING_BYTES and len(self._ring) > 1:
            if self._reader is not None and self._taken < self._first:
                self._room.clear()
                await self._room.wait()
                continue
            self._num_bytes -= len(self._ring.popleft())
            self._first += 1

    def _nobody_came(self) -> None:
        self._work.cancel()
        self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self._reader = None
        self._wake()
        self._on_end(self)

    def _wake(self) -> None:
        self._news.set()
        self._room.set()
