"""Streams that are read on in another worker than the one which makes them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

from llmserve.fleet.control import ask
from llmserve.fleet.membership import Membership
from llmserve.service.kept_streams import KeptStreams
from llmserve.timer import awake_timeout

KIND: Final = "resume"
ASK_SECONDS: Final = 2.0
Frames = AsyncGenerator[tuple[int, bytes]]


async def answer(kept: KeptStreams, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
    """What another worker is told: whether the stream is here, then its frames."""
    after = int(request["after"])
    stream = kept.find(str(request["id"]), str(request["caller"]), after)
    yield {"found": stream is not None}
    if stream is not None:
        async with contextlib.aclosing(stream.read(after)) as frames:
            async for number, frame in frames:
                yield {"number": number, "frame": frame.decode()}


async def find_anywhere(
    kept: KeptStreams, membership: Membership | None, stream_id: str, caller: str, after: int
) -> Frames | None:
    """The frames behind `after` of this caller's stream, wherever it is; `None` if it is gone."""
    stream = kept.find(stream_id, caller, after)
    if stream is not None:
        return stream.read(after)
    request = {"kind": KIND, "id": stream_id, "caller": caller, "after": after}
    peers = {} if membership is None else membership.peers()
    for number, path in peers.items():
        if membership is not None and number == membership.number:
            continue
        lines = ask(path, request)
        try:
            async with awake_timeout(ASK_SECONDS):
                first = await anext(lines, None)
        except (OSError, ValueError):  # it hangs, has just ended, or is not one of ours
            continue
        if isinstance(first, dict) and first.get("found") is True:
            return _elsewhere(lines)
        await lines.aclose()
    return None


async def _elsewhere(lines: AsyncGenerator[Any]) -> Frames:
    """The frames until the stream ends, or the worker that makes it."""
    async with contextlib.aclosing(lines):
        with contextlib.suppress(OSError, ValueError):
            async for line in lines:
                yield int(line["number"]), str(line["frame"]).encode()
