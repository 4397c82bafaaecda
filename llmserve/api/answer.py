"""The answer to a request for generations: streamed or whole, as its dialect writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from fastapi import Response

from llmserve.api.edge.disconnect import unless_client_leaves
from llmserve.api.edge.json import JSON
from llmserve.api.event_writer import EventWriter
from llmserve.api.exchange import Exchange
from llmserve.api.interleave import interleave
from llmserve.api.sse import KeepAlive, comment, stream_response
from llmserve.bootstrap import Container
from llmserve.domain import Terminal, Usage
from llmserve.service import Answer, Generation

Stream = Callable[[AsyncIterator[bytes], Container, KeepAlive], Response]
"""The response that sends frames as they come."""


async def answer(
    exchange: Exchange,
    generations: Sequence[Generation],
    writer: EventWriter,
    *,
    is_streamed: bool,
    keep_alive: KeepAlive = comment,
    stream: Stream = stream_response,
) -> Response:
    """Frames as they come, sent by `stream`, or JSON once every generation has ended.

    Raises:
        ClientGone: the client hung up while it waited for the JSON.
        LLMServeError: a generation failed, and the answer was not to be streamed.
    """
    if is_streamed:
        return stream(frames_of(generations, writer), exchange.container, keep_alive)
    answers = await unless_client_leaves(exchange.request, _collect(generations))

    def whole() -> Response:
        return JSON(writer.whole(answers))

    # The log probabilities of a long answer are megabytes, and others' streams must not wait.
    has_logprobs = any(one.logprobs or one.prompt_logprobs for one in answers)
    return await asyncio.to_thread(whole) if has_logprobs else whole()


async def frames_of(
    generations: Sequence[Generation], writer: EventWriter
) -> AsyncGenerator[bytes]:
    """What a stream consists of."""
    usages = [Usage(prompt_tokens=generation.prompt_tokens) for generation in generations]
    async with aclosing(interleave(generations)) as events:
        async for index, event in events:
            if isinstance(event, Terminal):
                usages[index] = event.usage
            for frame in writer.frames(index, event):
                yield frame
    for frame in writer.end(usages):
        yield frame


async def _collect(generations: Sequence[Generation]) -> list[Answer]:
    """All answers. The generations run by themselves; only the reading is one by one."""
    return [await generation.collect() for generation in generations]
