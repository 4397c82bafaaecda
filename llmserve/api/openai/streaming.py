"""The chunks of a streamed answer, ending in `[DONE]` whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

from llmserve.api.errors import error_body
from llmserve.api.interleave import interleave
from llmserve.api.openai.dialect import Envelope, choice, total_usage, usage_body
from llmserve.api.sse import data, queued_comment
from llmserve.domain import Delta, Event, Failed, Finish, Queued, Usage
from llmserve.service import Generation

DONE: Final = b"data: [DONE]\n\n"

MAX_LOGPROBS_PER_CHUNK: Final = 64
"""With 20 alternatives each this takes a few milliseconds to write."""


async def chunks(
    envelope: Envelope,
    generations: Sequence[Generation],
    *,
    choices_per_prompt: int,
    wants_usage: bool,
) -> AsyncIterator[bytes]:
    """Frames of all choices, interleaved; then the usage, if asked for; then `[DONE]`."""
    writer = _ChunkWriter(envelope, generations, wants_usage)
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
    def __init__(
        self, envelope: Envelope, generations: Sequence[Generation], wants_usage: bool
    ) -> None:
        self._envelope = envelope
        self._logprobs = [envelope.dialect.logprobs(g) for g in generations]
        # With include_usage OpenAI's other chunks carry a null usage.
        self._extra: dict[str, None] = {"usage": None} if wants_usage else {}
        self._opened: set[int] = set()

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        if isinstance(event, Queued):
            yield queued_comment(event)
            return
        if isinstance(event, Failed):
            yield data(error_body(event.error))
            return
        yield from self._opening(index)
        dialect = self._envelope.dialect
        match event:
            case Delta():
                yield from self._pieces(index, event)
            case Finish():
                yield self._chunk(choice(index, dialect.closing(), event))

    def usage(self, usage: Usage) -> bytes:
        body = self._envelope.body(self._envelope.dialect.chunk, [])
        return data(body | {"usage": usage_body(usage)})

    def _pieces(self, index: int, delta: Delta) -> Iterator[bytes]:
        """A delta, in several chunks if a slow reader let many log probabilities come together.

        A token whose text is held back has a chunk without text for its own.
        """
        text, told = delta.text, delta.logprobs
        dialect, writer = self._envelope.dialect, self._logprobs[index]
        while text or told:
            now, told = told[:MAX_LOGPROBS_PER_CHUNK], told[MAX_LOGPROBS_PER_CHUNK:]
            logprobs = writer.body(now) if now else None
            yield self._chunk(choice(index, dialect.piece(text), None, logprobs))
            text = ""

    def _opening(self, index: int) -> list[bytes]:
        opening = self._envelope.dialect.opening()
        if opening is None or index in self._opened:
            return []
        self._opened.add(index)
        return [self._chunk(choice(index, opening, None))]

    def _chunk(self, one_choice: dict[str, object]) -> bytes:
        return data(self._envelope.body(self._envelope.dialect.chunk, [one_choice]) | self._extra)
