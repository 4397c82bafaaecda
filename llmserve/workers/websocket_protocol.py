"""Bounds on a WebSocket below the level of messages: handshake, pings, fragments, and clients that
read nothing. Extends Uvicorn's sans-I/O protocol, which bounds messages and closes silent
connections by pings.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11
from websockets.exceptions import InvalidHandshake, InvalidHeader
from websockets.frames import Frame

from llmserve.address import unmapped
from llmserve.errors import (
    InvalidRequest,
    LLMServeError,
    ServerError,
    ShuttingDown,
    UpgradeRequired,
    WaitTimeout,
)
from llmserve.timer import Timer
from llmserve.workers.refusal import refusal

LINE_MARGIN: Final = 64
"""Bytes of a request line that do not count towards `max_header_bytes`: method and version."""

VERSION: Final = "Sec-WebSocket-Version"
MAX_FRAGMENTS: Final = 1024
"""Per message. Empty fragments cost memory that no limit on a message's size accounts for."""


def bounded_websocket(
    *, max_header_bytes: int, header_timeout_seconds: float, send_timeout_seconds: float
) -> type[WebSocketsSansIOProtocol]:
    """The protocol class for Uvicorn's `ws` option, with these bounds."""
    # websockets parses the handshake again, and would accept at most 8 KiB a line.
    http11.MAX_LINE_LENGTH = max(http11.MAX_LINE_LENGTH, max_header_bytes + LINE_MARGIN)
    return type(
        "BoundedWebSocket",
        (_BoundedWebSocket,),
        {
            "header_timeout_seconds": header_timeout_seconds,
            "send_timeout_seconds": send_timeout_seconds,
        },
    )


class _BoundedWebSocket(WebSocketsSansIOProtocol):
    """Reads nothing before the handshake is answered, as no frame may come before that (RFC 6455,
    section 4.1), and nothing while the client reads nothing: every ping from it needs a pong."""

    header_timeout_seconds: float
    send_timeout_seconds: float
    _handshake_timer: Timer | None = None
    _send_timer: Timer | None = None
    _is_unread = False
    _early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.client is not None:
            self.client = (unmapped(self.client[0]), self.client[1])
        self._handshake_timer = Timer(self.header_timeout_seconds, self._handshake_is_late)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse(InvalidRequest("this is not a valid WebSocket handshake"))

    def take_early(self, data: bytes) -> None:
        """Keep bytes that were received together with the handshake until that is accepted."""
        self._early = data

    def handle_connect(self, event: http11.Request) -> None:
        try:
            self.conn.process_request(event)
        except (InvalidHandshake, ValueError) as fault:
            self._refuse(_refused_handshake(fault))
        else:
            super().handle_connect(event)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True  # otherwise Uvicorn logs an error for every denial
        if message["type"] == "websocket.accept":
            self._cancel_handshake_timer()
            if not self._is_unread:
                self.transport.resume_reading()
            early, self._early = self._early, b""
            if early and not self.transport.is_closing():
                self.data_received(early)

    def send_500_response(self) -> None:
        if not (self.initial_response or self.handshake_complete):
            self._refuse(ServerError("an unexpected error; see the log"))

    def shutdown(self) -> None:
        if self.transport.is_closing():
            self.stop_keepalive()  # `_send_timer` ends the connection if the client does not
        elif self.handshake_complete:
            super().shutdown()
            self._await_reader()
        else:
            self._refuse(ShuttingDown("the server is shutting down; try another"))

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if self._is_unread:  # Uvicorn resumes reading as soon as its queue is empty
            self.transport.pause_reading()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_handshake_timer()
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
        if self.handshake_complete and not self.read_paused:
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
        """Bound the time for closing or writing, which a client that never reads could block."""
        if self._send_timer is None and not self.disconnected:
            self._send_timer = Timer(self.send_timeout_seconds, self.transport.abort)

    def _handshake_is_late(self) -> None:
        self._handshake_timer = None
        if not self.handshake_complete:
            self._refuse(WaitTimeout("the WebSocket could not be opened in time; try again"))

    def _cancel_handshake_timer(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    def _refuse(self, error: LLMServeError) -> None:
        """Answer the handshake without the application, and close."""
        if self.close_sent or self.transport.is_closing():
            return
        self.handshake_complete = self.close_sent = True
        self._cancel_handshake_timer()
        self.transport.write(refusal(error))
        self.transport.close()
        self._await_reader()
        self.disconnected = True  # whatever the application still sends is dropped


def _refused_handshake(fault: Exception) -> LLMServeError:
    """Our error for a handshake. It does not contain the header's value: that may be a key, and
    would be logged."""
    if not isinstance(fault, InvalidHeader):
        return InvalidRequest("this is not a valid WebSocket handshake")
    if fault.name == VERSION:
        return UpgradeRequired("this server speaks version 13 of WebSocket; use it", param=VERSION)
    return InvalidRequest(
        f"{fault.name} is missing or malformed, which a WebSocket needs", param=fault.name
    )
