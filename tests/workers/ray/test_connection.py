"""A connection in a replica: its client leaves, the call is dropped, the application fails; then
what it sends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bounded import run
from starlette.types import Message, Receive, Scope, Send

from llmserve.workers.ray import connection as connections
from llmserve.workers.ray.connection import MOST_MESSAGES, Connection

HTTP: Scope = {"type": "http", "path": "/"}
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def part(text: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": text, "more_body": more}


class Waiting:
    """Begins to answer and ends once its client has gone; remembers what it received."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.has_ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while not self.received or not self.received[-1]["type"].endswith(".disconnect"):
            self.received.append(await receive())
        await send(part(b"nobody reads this", more=False))
        self.has_ended = True


def test_a_client_that_leaves_ends_the_answer_in_the_applications_own_way() -> None:
    async def test() -> None:
        app = Waiting()
        connection = Connection(app, HTTP, b"body")
        batches = connection.batches()
        assert await anext(batches) == [START]
        connection.deliver({"type": "http.disconnect"})
        assert [batch async for batch in batches] == []
        assert app.has_ended
        assert [m["type"] for m in app.received] == ["http.request", "http.disconnect"]

    run(test)


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_call_that_is_dropped_is_a_client_that_left(kind: str) -> None:
    async def test() -> None:
        app = Waiting()
        batches = Connection(app, {"type": kind, "path": "/"}, None).batches()
        await anext(batches)
        await batches.aclose()
        assert app.has_ended
        assert app.received[-1]["type"] == f"{kind}.disconnect"

    run(test)


def test_an_application_that_does_not_notice_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LEAVE_SECONDS", 0.01)
    was_cancelled = asyncio.Event()

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    async def test() -> None:
        batches = Connection(deaf, HTTP, b"").batches()
        await anext(batches)
        await batches.aclose()
        await was_cancelled.wait()

    run(test)


def test_what_the_application_raises_comes_after_what_it_sent() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise ValueError("a bug")

    async def test() -> None:
        batches = Connection(broken, HTTP, b"").batches()
        assert await anext(batches) == [START]
        with pytest.raises(ValueError, match="a bug"):
            await anext(batches)

    run(test)


def test_messages_of_one_moment_come_together_and_too_many_wait() -> None:
    sent: list[Any] = []

    async def quick(scope: Scope, receive: Receive, send: Send) -> None:
        for number in range(MOST_MESSAGES + 2):
            await send(part(b"%d" % number))
            sent.append(number)

    async def test() -> None:
        batches = Connection(quick, HTTP, b"").batches()
        assert len(await anext(batches)) == MOST_MESSAGES == len(sent)
        assert [len(batch) async for batch in batches] == [2]

    run(test)
