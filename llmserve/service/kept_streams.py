"""The streams of a worker that readers may come back to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from llmserve.service.kept_stream import RING_BYTES, KeptStream


class KeptStreams:
    """Finds them by id. Owned by the event loop."""

    def __init__(self, away_seconds: float, max_bytes: int) -> None:
        """`away_seconds` is how long a stream waits for its reader; 0 keeps none. All of them
        together keep at most `max_bytes`."""
        self._away_seconds = away_seconds
        self._most = max_bytes // RING_BYTES if away_seconds > 0 else 0
        self._streams: dict[str, KeptStream] = {}

    @property
    def keeps_any(self) -> bool:
        """Whether streams are kept at all, here and in the other workers of the box."""
        return self._most > 0

    def make_room(self) -> bool:
        """Whether one more can be kept; one that only waits for the rest to be read gives way."""
        if len(self._streams) >= self._most:
            over = next((one for one in self._streams.values() if one.is_over), None)
            if over is not None:
                self._forget(over)
        return len(self._streams) < self._most

    def keep(
        self,
        stream_id: str,
        caller: str,
        frames: AsyncGenerator[bytes],
        release: Callable[[], Awaitable[None]],
    ) -> KeptStream:
        """Keep a stream, for which there is room. A later one of the same id takes its name."""
        stream = KeptStream(stream_id, caller, frames, release, self._away_seconds, self._forget)
        self._streams[stream_id] = stream
        return stream

    def find(self, stream_id: str, caller: str, after: int) -> KeptStream | None:
        """The stream of this caller, if somebody who has seen so many of its frames can go on."""
        stream = self._streams.get(stream_id)
        is_it = stream is not None and stream.caller == caller and stream.has(after)
        return stream if is_it else None

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(stream.close() for stream in list(self._streams.values())))

    def _forget(self, stream: KeptStream) -> None:
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]
