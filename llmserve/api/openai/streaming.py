"""The chunks of a streamed answer, ending in `[DONE]` whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final

from llmserve.api.errors import error_body
from llmserve.api.interleave import interleave
from llmserve.api.openai.dialect import Envelope, choice, total_usage, usage_body
from llmserve.api.sse import data, queued_comment
from llmserve.domain import Delta, Event, Failed, Finish, Queued, Usage
from llmserve.service import Generation

DONE: Final = b"data: [DONE]\n\n"


async def chunks(
    envelope: Envelope,
    generations: Sequence[Generation],
    *,
    choices_per_prompt: int,
    wants_usage: bool,
) -> AsyncIterator[bytes]:
    """Frames of all choices, interleaved; then the usage, if asked for; then `[DONE]`."""
    writer = _ChunkWriter(envelope, wants_usage)
    usages = [Usage(prompt_tokens=g.prompt_tokens) for g in generations]
    async with aclosing(interleave(generations)) as events:
        async for index, event in events:
            if isinstance(event, Finish | Failed):
                usages[index] = event.usage
            for frame in writer.frames(index, event):
                yield frame
    if wants_usage:
        yield writer.usage(total_usage(usages, choices_per_prompt))
    yield DONE


class _ChunkWriter:
    def __init__(self, envelope: Envelope, wants_usage: bool) -> None:
        self._envelope = envelope
        # With include_usage OpenAI's other chunks carry a null usage.
        self._extra: dict[str, None] = {"usage": None} if wants_usage else {}
        self._opened: set[int] = set()

    def frames(self, index: int, event: Event) -> list[bytes]:
        if isinstance(event, Queued):
            return [queued_comment(event)]
        if isinstance(event, Failed):
            return [data(error_body(event.error))]
        frames = self._opening(index)
        dialect = self._envelope.dialect
        match event:
            case Delta(text, _) if text:
                frames.append(self._chunk(choice(index, dialect.piece(text), None)))
            case Finish():
                frames.append(self._chunk(choice(index, dialect.closing(), event)))
        return frames

    def usage(self, usage: Usage) -> bytes:
        body = self._envelope.body(self._envelope.dialect.chunk, [])
        return data(body | {"usage": usage_body(usage)})

    def _opening(self, index: int) -> list[bytes]:
        opening = self._envelope.dialect.opening()
        if opening is None or index in self._opened:
            return []
        self._opened.add(index)
        return [self._chunk(choice(index, opening, None))]

    def _chunk(self, one_choice: dict[str, object]) -> bytes:
        return data(self._envelope.body(self._envelope.dialect.chunk, [one_choice]) | self._extra)
