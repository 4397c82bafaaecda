"""Bounds on a WebSocket beneath its messages: pings, fragments, and readers that take nothing.
Over Uvicorn's sans-I/O protocol, which bounds messages and closes silent connections by pings.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from llmserve.address import unmapped
from llmserve.timer import Timer

MAX_FRAGMENTS: Final = 1024
"""Of one message. Empty ones cost memory here that no limit on a message's size sees."""


def bounded_websocket(*, send_timeout_seconds: float) -> type[WebSocketsSansIOProtocol]:
    """The protocol class for Uvicorn's `ws` option, with this bound."""
    return type(
        "BoundedWebSocket",
        (_BoundedWebSocket,),
        {"send_timeout_seconds": send_timeout_seconds},
    )


class _BoundedWebSocket(WebSocketsSansIOProtocol):
    """Reads nothing while the client reads nothing: every ping it sends wants an answer."""

    send_timeout_seconds: float
    _send_timer: Timer | None = None
    _is_unread = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.client is not None:
            self.client = (unmapped(self.client[0]), self.client[1])

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if self._is_unread:  # Uvicorn reads on as soon as its queue is empty
            self.transport.pause_reading()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_unread = True
        self.transport.pause_reading()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_unread = False
        if self.transport.is_closing():
            return
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
        if not self.read_paused:
            self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.frames = []
            self.conn.fail(1009, f"a message of over {MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._await_reader()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._await_reader()

    def _await_reader(self) -> None:
        """A transport closes when all is written, which a client that never reads can prevent."""
        if self._send_timer is None and not self.disconnected:
            self._send_timer = Timer(self.send_timeout_seconds, self.transport.abort)
