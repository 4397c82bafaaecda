"""Generations on their way to a response, in a dialect of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from bounded import run
from scripted_generation import ScriptedGeneration

from llmserve.api.answer import answer
from llmserve.api.errors import ClientGone
from llmserve.api.exchange import Exchange
from llmserve.api.sse import OPENING
from llmserve.domain import (
    Caller,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    TokenLogprobs,
    Usage,
)
from llmserve.errors import GenerationFailed
from llmserve.service import Answer
from llmserve.settings import Settings

END = Finish(FinishReason.STOP, Usage(3, 1))
BROKEN = GenerationFailed("it broke")


class ToyWriter:
    """Two frames per event; remembers in which thread a whole answer was written."""

    def __init__(self) -> None:
        self.thread = ""

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        yield f"{index}<".encode()
        yield f"{type(event).__name__}>".encode()

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        yield repr([(usage.prompt_tokens, usage.completion_tokens) for usage in usages]).encode()

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        self.thread = threading.current_thread().name
        return {"texts": [answer.text for answer in answers]}


class Client:
    """Hangs up when the test says so."""

    def __init__(self) -> None:
        self.has_left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.has_left.wait()
        return {"type": "http.disconnect"}


def exchange(client: Client) -> Exchange:
    container = SimpleNamespace(settings=Settings(), service=None)
    return Exchange(client, container, Caller(), None, AsyncExitStack())  # type: ignore[arg-type]


async def streamed(*generations: ScriptedGeneration) -> list[bytes]:
    response = await answer(exchange(Client()), generations, ToyWriter(), is_streamed=True)  # type: ignore[arg-type]
    body: AsyncIterator[Any] = response.body_iterator  # type: ignore[attr-defined]
    return [frame async for frame in body]


def test_a_stream_has_the_frames_of_all_events_and_then_the_end() -> None:
    async def test() -> None:
        frames = await streamed(ScriptedGeneration([Delta("a", (1,)), END]))
        assert frames == [OPENING, b"0<", b"Delta>", b"0<", b"Finish>", b"[(3, 1)]"]

    run(test)


def test_the_end_knows_the_usage_of_each_generation() -> None:
    async def test() -> None:
        failed = ScriptedGeneration([Failed(BROKEN, Usage(3, 7))])
        frames = await streamed(ScriptedGeneration([END]), failed, ScriptedGeneration())
        assert set(frames[1:-1]) == {b"0<", b"Finish>", b"1<", b"Failed>"}
        assert frames[-1] == b"[(3, 1), (3, 7), (3, 0)]", "the last one never said"

    run(test)


@pytest.mark.parametrize("logprobs", [None, (), (TokenLogprobs(1, -0.5),)])
def test_a_whole_answer_is_json_and_written_in_a_thread_if_it_may_be_large(
    logprobs: tuple[TokenLogprobs, ...] | None,
) -> None:
    async def test() -> None:
        generations = [
            ScriptedGeneration(answer=Answer(text, (), END, logprobs)) for text in ("a", "b")
        ]
        writer = ToyWriter()
        response = await answer(exchange(Client()), generations, writer, is_streamed=False)  # type: ignore[arg-type]
        assert response.media_type == "application/json"
        assert orjson.loads(response.body) == {"texts": ["a", "b"]}
        is_in_thread = writer.thread != threading.current_thread().name
        assert is_in_thread == bool(logprobs)

    run(test)


def test_a_failure_of_a_whole_answer_is_raised() -> None:
    async def test() -> None:
        generations = [ScriptedGeneration(answer=told) for told in (Answer("a", (), END), BROKEN)]
        with pytest.raises(GenerationFailed):
            await answer(exchange(Client()), generations, ToyWriter(), is_streamed=False)  # type: ignore[arg-type]

    run(test)


def test_a_client_that_leaves_is_not_written_to() -> None:
    client = Client()

    class Endless(ScriptedGeneration):
        async def collect(self) -> Answer:
            client.has_left.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def test() -> None:
        writer = ToyWriter()
        with pytest.raises(ClientGone):
            await answer(exchange(client), [Endless()], writer, is_streamed=False)  # type: ignore[list-item]
        assert writer.thread == ""

    run(test)
