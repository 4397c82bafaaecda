"""`GET /stream` for clients that come back: `EventSource` does, with the id of the last event."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from fastapi import Response

from llmserve.api.answer import frames_of
from llmserve.api.exchange import Exchange
from llmserve.api.native.writer import NativeWriter
from llmserve.api.sse import stream_response
from llmserve.operations.resuming import find_anywhere
from llmserve.service import Generation

RETRY: Final = b"retry: 1000\n\n"
"""Milliseconds until a browser comes back; of themselves they wait for up to five seconds."""

COMMENT: Final = b":"


def place_of(last_event_id: str) -> tuple[str, int]:
    """The stream and the number of the event, from an event's id, which is `ID/NUMBER`."""
    stream_id, _, number = last_event_id.rpartition("/")
    is_number = number.isascii() and number.isdecimal() and len(number) < 16
    return (stream_id, int(number)) if is_number else (last_event_id, 0)


def resumable(exchange: Exchange, generation: Generation) -> Response:
    """A stream that can be read on after its connection was cut, where that is set and there is
    room."""
    kept = exchange.container.kept_streams
    if not kept.make_room():
        frames = frames_of([generation], NativeWriter(generation))
        return stream_response(frames, exchange.container)
    stream = kept.keep(
        generation.id,
        exchange.caller.name,
        frames_of([generation], NativeWriter(generation, has_id=False)),
        exchange.opened.pop_all().aclose,  # it outlives this request
    )
    numbered = _with_ids(generation.id, stream.read(0))
    return stream_response(numbered, exchange.container)


async def read_on(exchange: Exchange, stream_id: str, after: int) -> Response:
    """The rest of a stream; 204 where there is none, and `EventSource` stays away."""
    container = exchange.container
    kept, caller = container.kept_streams, exchange.caller.name
    frames = None
    if kept.keeps_any:
        frames = await find_anywhere(kept, container.membership, stream_id, caller, after)
    if frames is None:
        return Response(status_code=204)
    return stream_response(_with_ids(stream_id, frames), container)


async def _with_ids(
    stream_id: str, frames: AsyncGenerator[tuple[int, bytes]]
) -> AsyncGenerator[bytes]:
    yield RETRY
    async with aclosing(frames):
        async for number, frame in frames:
            is_event = not frame.startswith(COMMENT)
            yield f"id: {stream_id}/{number}\n".encode() + frame if is_event else frame
