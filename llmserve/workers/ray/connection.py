"""One HTTP request or WebSocket inside a replica: runs the application on messages that come from
the ingress and go back to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from loguru import logger
from starlette.types import ASGIApp, Message, Scope

LEAVE_SECONDS: Final = 20.0
"""How long the application may take to end after the client has gone."""
MOST_MESSAGES: Final = 64
"""Messages that wait to be taken; then the application waits, which merges its tokens."""


class Connection:
    """Owned by the replica's event loop. `body` is a request's whole body, and `None` for a
    WebSocket, whose frames come by `deliver`.

    A client that has gone is an ASGI message and no cancelled task: code that is cancelled at any
    point of its life leaves more behind.
    """

    def __init__(self, app: ASGIApp, scope: Scope, body: bytes | None) -> None:
        self._app = app
        self._scope = scope
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._gone: Message | None = None
        if body is not None:
            self.deliver({"type": "http.request", "body": body, "more_body": False})

    def deliver(self, message: Message) -> None:
        """Give the application a message of the client."""
        self._inbox.put_nowait(message)
        if message["type"].endswith(".disconnect"):
            self._gone = message
            self._has_room.set()

    async def batches(self) -> AsyncGenerator[list[Message]]:
        """What the application sends, all that is there at a time, until it has ended.

        Raises:
            Exception: what the application raised.
        """
        task = asyncio.create_task(self._run(), name="connection")
        task.add_done_callback(lambda _: self._changed.set())
        try:
            while not task.done() or self._outbox:
                await self._changed.wait()
                self._changed.clear()
                if self._outbox:
                    batch = list(self._outbox)
                    self._outbox.clear()
                    self._has_room.set()
                    yield batch
            task.result()
        finally:
            await self._end(task)

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._gone is not None and self._inbox.empty():
            return self._gone  # as often as it is asked for
        return await self._inbox.get()

    async def _send(self, message: Message) -> None:
        if self._gone is not None:
            return  # nobody reads it
        await self._has_room.wait()
        self._outbox.append(message)
        self._changed.set()
        if len(self._outbox) >= MOST_MESSAGES:
            self._has_room.clear()

    async def _end(self, task: asyncio.Task[None]) -> None:
        """Let the application end in its own way, if Ray cancels or drops the call."""
        if task.done():
            return
        kind = "websocket" if self._scope["type"] == "websocket" else "http"
        self.deliver({"type": f"{kind}.disconnect"})
        _, pending = await asyncio.wait({task}, timeout=LEAVE_SECONDS)
        if pending:
            logger.error("a request to {} did not end within {:.0f} s of its client's leaving",
                         self._scope["path"], LEAVE_SECONDS)  # fmt: skip
            task.cancel()
