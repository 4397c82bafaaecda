"""A call of a replica: nobody takes it, its replica dies, its client leaves; then its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import pytest
from bounded import run
from needs import needs_package
from starlette.types import Message, Scope

needs_package("ray")

from ray.exceptions import RayActorError, RayError  # noqa: E402

from llmserve.errors import NotReady, WorkerGone  # noqa: E402
from llmserve.workers.ray import call as calls  # noqa: E402
from llmserve.workers.ray.call import Call  # noqa: E402

SCOPE: Scope = {"type": "http", "path": "/", "headers": [[b"host", b"x"]], "app": object()}
BODY: Message = {"type": "http.response.body", "body": b"x", "more_body": True}


class Answer:
    """What Ray's handle returns for a stream."""

    def __init__(self, items: AsyncGenerator[Any]) -> None:
        self._items = items
        self.is_cancelled = False

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._items)

    def cancel(self) -> None:
        self.is_cancelled = True


class Handle:
    """A deployment with one replica, which runs `replica`."""

    deployment_name = "demo"

    def __init__(self, replica: Any) -> None:
        self._replica = replica
        self.delivered: list[tuple[Message, str | None]] = []
        self.is_gone = asyncio.Event()
        self.has_ended = False
        self.scope: Scope = {}
        self.answer: Answer | None = None
        self._method = ""

    def options(self, *, method_name: str, stream: bool = False) -> Handle:
        self._method = method_name
        return self

    def remote(self, call_id: str, *rest: Any, **keywords: Any) -> Any:
        if self._method == "answer":
            self.scope = rest[0]
            self.answer = Answer(self._replica(self))
            return self.answer
        return self._deliver(rest[0], keywords["replica"])

    def _deliver(self, message: Message, replica: str | None) -> Awaitable[None]:
        self.delivered.append((message, replica))
        self.is_gone.set()
        return asyncio.sleep(0)


async def endless(handle: Handle) -> AsyncGenerator[Any]:
    """Answers until its client has gone."""
    yield "r1"
    yield [BODY]
    await handle.is_gone.wait()
    handle.has_ended = True


async def short(handle: Handle) -> AsyncGenerator[Any]:
    yield "r1"
    yield [BODY]
    yield [BODY, BODY]


def made(handle: Handle) -> Call:
    return Call(handle, SCOPE, b"", ())


def test_a_call_that_no_replica_takes_is_taken_back() -> None:
    async def nobody(handle: Handle) -> AsyncGenerator[Any]:
        await asyncio.Event().wait()
        yield "never"

    async def test() -> None:
        call = made(handle := Handle(nobody))
        with pytest.raises(NotReady, match="no replica of 'demo'"):
            await call.start(0.01)
        while not call.has_ended:
            await asyncio.sleep(0)
        assert handle.answer is not None
        assert handle.answer.is_cancelled

    run(test)


@pytest.mark.parametrize("error", [RayActorError(), RayError("a bug")])
def test_a_replica_that_dies_ends_its_answer_with_an_error(error: Exception) -> None:
    async def dying(handle: Handle) -> AsyncGenerator[Any]:
        yield "r1"
        yield [BODY]
        raise error

    async def test() -> None:
        call = made(Handle(dying))
        await call.start(5)
        batches = call.batches()
        assert await anext(batches) == [BODY]
        with pytest.raises(WorkerGone):
            await anext(batches)
        assert call.has_ended

    run(test)


def test_a_replica_that_dies_at_once_is_told_when_it_starts() -> None:
    async def dead(handle: Handle) -> AsyncGenerator[Any]:
        if handle:
            raise RayActorError
        yield ""

    async def test() -> None:
        with pytest.raises(WorkerGone):
            await made(Handle(dead)).start(5)

    run(test)


def test_a_reader_that_is_cancelled_cancels_nothing_and_hanging_up_ends_the_answer() -> None:
    async def test() -> None:
        call = made(handle := Handle(endless))
        await call.start(5)

        async def read() -> None:
            async for _ in call.batches():
                pass

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait({reader})
        assert not call.has_ended
        await call.hang_up()
        assert handle.has_ended
        assert handle.answer is not None
        assert not handle.answer.is_cancelled
        assert handle.delivered == [({"type": "http.disconnect"}, "r1")]

    run(test)


def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FAREWELL_SECONDS", 0.01)

    async def deaf(handle: Handle) -> AsyncGenerator[Any]:
        yield "r1"
        await asyncio.Event().wait()

    async def test() -> None:
        call = made(handle := Handle(deaf))
        await call.start(5)
        await call.hang_up()
        while not call.has_ended:
            await asyncio.sleep(0)
        assert handle.answer is not None
        assert handle.answer.is_cancelled

    run(test)


def test_a_message_for_an_answer_that_has_ended_is_not_sent() -> None:
    async def test() -> None:
        call = made(handle := Handle(short))
        await call.start(5)
        assert [batch async for batch in call.batches()] == [[BODY], [BODY, BODY]]
        await call.deliver({"type": "http.disconnect"})
        assert handle.delivered == []
        assert "app" not in handle.scope

    run(test)
