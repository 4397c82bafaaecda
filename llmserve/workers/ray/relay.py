"""Passes one connection on to a replica, and its answer back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from loguru import logger
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from llmserve.api.edge.request_context import HEADER as REQUEST_ID
from llmserve.api.errors import error_response
from llmserve.errors import LLMServeError, NotReady, WorkerGone
from llmserve.workers.ray.call import Call
from llmserve.workers.ray.dialect import is_over, last_words, path_of, shape_of

ATTEMPTS: Final = 3
"""A request whose replica dies before its answer begins is sent to another one."""
TRY_AGAIN: Final = 1012
"""The code with which a WebSocket closes whose server is going away."""

Background = Callable[[Coroutine[Any, Any, None]], None]
"""Runs what outlives its request."""


class Relay:
    """`make_call` sends the request; `background` looks after answers whose client has gone."""

    def __init__(
        self, make_call: Callable[[], Call], start_seconds: float, background: Background
    ) -> None:
        self._make_call = make_call
        self._start_seconds = start_seconds
        self._background = background

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose body has been read."""
        answer = _Answer(path_of(scope), send)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._once(receive, answer.send)
                return
            except WorkerGone as error:
                if attempt == ATTEMPTS or answer.content_type is not None:
                    await answer.fail(error)
                    return
                logger.warning("a replica died before it answered; the request goes to another one")
            except NotReady as error:
                await error_response(error, shape_of(path_of(scope)))(scope, receive, send)
                return

    async def converse(self, receive: Receive, send: Send) -> None:
        """Answer a WebSocket, which ends with its replica."""
        has_accepted = False

        async def watch(message: Message) -> None:
            nonlocal has_accepted
            has_accepted = has_accepted or message["type"] == "websocket.accept"
            await send(message)

        try:
            await self._once(receive, watch)
        except LLMServeError as error:
            logger.warning("a WebSocket ends: {}", error)
            code = TRY_AGAIN if has_accepted else 1000
            await send({"type": "websocket.close", "code": code, "reason": error.message[:120]})

    async def _once(self, receive: Receive, send: Send) -> None:
        call = self._make_call()
        listener: asyncio.Task[None] | None = None
        try:
            await call.start(self._start_seconds)
            listener = asyncio.create_task(_listen(receive, call), name="listen")
            async for batch in call.batches():
                for message in batch:
                    await send(message)
        finally:
            if listener is not None:
                listener.cancel()
            if not call.has_ended:
                self._background(call.hang_up())


class _Answer:
    """Sends an answer, and knows how to end it if the rest does not come."""

    def __init__(self, path: str, send: Send) -> None:
        self._path = path
        self._send = send
        self.content_type: str | None = None
        """`None` until it begins."""
        self._last_frame = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            self.content_type = headers.get("content-type", "")
            del headers[REQUEST_ID]  # Ray adds the same one
        elif body := message.get("body"):
            self._last_frame = body
        await self._send(message)

    async def fail(self, error: LLMServeError) -> None:
        """Before the answer begins an error is a status; later it is a stream's last event, unless
        that has been sent and only the connection was still open.

        Raises:
            LLMServeError: neither is possible: the connection must be cut.
        """
        if self.content_type is None:
            response = error_response(error, shape_of(self._path))
            await self._send({"type": "http.response.start", "status": error.status,
                              "headers": response.raw_headers})  # fmt: skip
            await self._send({"type": "http.response.body", "body": response.body})
            return
        words = last_words(self._path, self.content_type)
        if words is None:
            raise error
        is_told = is_over(self.content_type, self._last_frame)
        body = b"" if is_told else words(error)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


async def _listen(receive: Receive, call: Call) -> None:
    """Pass on what the client sends, until it has gone."""
    while True:
        message = await receive()
        await call.deliver(message)
        if message["type"].endswith(".disconnect"):
            return
