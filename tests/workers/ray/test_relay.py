"""What becomes of a connection whose replica dies, or whose client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, cast

import pytest
from bounded import run
from needs import needs_package
from starlette.types import Message, Scope

needs_package("ray")

from llmserve.errors import LLMServeError, NotReady, WorkerGone  # noqa: E402
from llmserve.workers.ray.call import Call  # noqa: E402
from llmserve.workers.ray.relay import ATTEMPTS, Relay  # noqa: E402

DEAD = WorkerGone("it died")


def start(content_type: str) -> Message:
    headers = [(b"content-type", content_type.encode()), (b"x-request-id", b"1")]
    return {"type": "http.response.start", "status": 200, "headers": headers}


PART: Message = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Scripted:
    """A call that yields these messages, and raises these errors."""

    def __init__(self, *steps: Message | LLMServeError | None) -> None:
        self._steps = steps
        self.has_ended = False
        self.delivered: list[Message] = []
        self.was_hung_up = False

    async def start(self, seconds: float) -> None:
        if isinstance(self._steps[0], LLMServeError):
            self.has_ended = True
            raise self._steps[0]

    async def batches(self) -> AsyncIterator[list[Message]]:
        for step in self._steps:
            if step is None:
                await asyncio.Event().wait()
            elif isinstance(step, LLMServeError):
                self.has_ended = True
                raise step
            else:
                yield [dict(step)]
        self.has_ended = True

    async def deliver(self, message: Message) -> None:
        self.delivered.append(message)

    async def hang_up(self) -> None:
        self.was_hung_up = True


class Line:
    """A connection to the ingress."""

    def __init__(self, *calls: Scripted, path: str = "/v1/messages") -> None:
        self.sent: list[Message] = []
        self.scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        self.left = list(calls)
        self.background: list[Coroutine[Any, Any, None]] = []
        self.has_left = asyncio.Event()
        self.relay = Relay(lambda: cast(Call, self.left.pop(0)), 5.0, self.background.append)

    async def receive(self) -> Message:
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def answer(self) -> None:
        await self.relay.answer(self.scope, self.receive, self.send)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def test_a_request_whose_replica_dies_before_it_answers_goes_to_another_one() -> None:
    async def test() -> None:
        line = Line(Scripted(DEAD), Scripted(start("text/event-stream"), PART, END))
        await line.answer()
        assert line.body == PART["body"]
        assert [m["type"] for m in line.sent].count("http.response.start") == 1
        assert (b"x-request-id", b"1") not in line.sent[0]["headers"]  # Ray adds it

    run(test)


def test_the_last_attempt_tells_the_error_in_the_routes_shape() -> None:
    async def test() -> None:
        line = Line(*(Scripted(DEAD) for _ in range(ATTEMPTS + 1)))
        await line.answer()
        assert line.sent[0]["status"] == 502
        assert line.body.startswith(b'{"type":"error"')
        assert len(line.left) == 1

    run(test)


def test_no_replica_in_time_is_not_ready() -> None:
    async def test() -> None:
        line = Line(Scripted(NotReady("nobody", retry_after_seconds=5)))
        await line.answer()
        assert line.sent[0]["status"] == 503
        assert (b"retry-after", b"5") in line.sent[0]["headers"]

    run(test)


def test_a_stream_whose_replica_dies_ends_with_one_error() -> None:
    async def test() -> None:
        line = Line(Scripted(start("text/event-stream"), PART, DEAD), Scripted(DEAD))
        await line.answer()
        assert line.body.count(b"event: error") == 1
        assert line.sent[-1]["more_body"] is False
        assert len(line.left) == 1, "a request that was answered in part is not sent again"

    run(test)


def test_a_stream_that_was_told_its_end_has_no_second_one() -> None:
    async def test() -> None:
        done = {**PART, "body": b"event: done\ndata: {}\n\n"}
        line = Line(Scripted(start("text/event-stream"), PART, done, DEAD), path="/generate")
        await line.answer()
        assert line.body == PART["body"] + done["body"]
        assert line.sent[-1]["more_body"] is False

    run(test)


def test_a_body_whose_replica_dies_is_cut() -> None:
    async def test() -> None:
        line = Line(Scripted(start("application/json"), PART, DEAD))
        with pytest.raises(WorkerGone):
            await line.answer()

    run(test)


def test_the_replica_is_told_that_the_client_has_left() -> None:
    async def test() -> None:
        call = Scripted(start("text/event-stream"), None)
        line = Line(call)
        answer = asyncio.create_task(line.answer())
        line.has_left.set()
        while not call.delivered:
            await asyncio.sleep(0)
        answer.cancel()
        await asyncio.wait({answer})
        assert call.delivered == [{"type": "http.disconnect"}]
        (farewell,) = line.background
        await farewell
        assert call.was_hung_up

    run(test)


@pytest.mark.parametrize("has_accepted", [True, False])
def test_a_websocket_ends_with_its_replica(has_accepted: bool) -> None:
    async def test() -> None:
        steps = [{"type": "websocket.accept"}] if has_accepted else []
        line = Line(Scripted(*steps, DEAD))
        await line.relay.converse(line.receive, line.send)
        assert line.sent[-1]["type"] == "websocket.close"
        assert line.sent[-1]["code"] == (1012 if has_accepted else 1000)

    run(test)
