"""What a client may do before the application sees its request: bounds on headers, on the time
they take, and on how long a reader may take nothing. Over Uvicorn's httptools protocol.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from llmserve.api.errors import error_body
from llmserve.errors import HeadersTooLarge, HeaderTimeout, InvalidRequest, LLMServeError

MAX_HEADERS: Final = 128


def bounded_protocol(
    *, max_header_bytes: int, header_timeout_seconds: float, send_timeout_seconds: float
) -> type[HttpToolsProtocol]:
    """The protocol class for Uvicorn's `http` option, with these bounds."""
    return type(
        "BoundedProtocol",
        (_BoundedProtocol,),
        {
            "max_header_bytes": max_header_bytes,
            "header_timeout_seconds": header_timeout_seconds,
            "send_timeout_seconds": send_timeout_seconds,
        },
    )


class _BoundedProtocol(HttpToolsProtocol):
    """Counts raw bytes while headers are incomplete; httptools alone would collect for ever."""

    max_header_bytes: int
    header_timeout_seconds: float
    send_timeout_seconds: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as Uvicorn has it
        super().connection_made(transport)
        self._is_in_headers = True
        self._is_refused = False
        self._raw_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._header_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._is_in_headers:
            self._raw_bytes += len(data)
            if self._header_timer is None:
                self._await_headers()
        super().data_received(data)
        if self._is_in_headers and self._raw_bytes > self.max_header_bytes:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers = True

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._raw_bytes = 0
        self._cancel_header_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.max_header_bytes or len(self.headers) > MAX_HEADERS:
            self._refuse_headers()
        elif not self._is_refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            super().on_message_complete()
        self._is_in_headers = True

    def handle_websocket_upgrade(self) -> None:
        if not self._is_refused:
            super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = self.loop.call_later(self.send_timeout_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def send_400_response(self, msg: str) -> None:
        """Of Uvicorn, for what is no HTTP at all; in the one error shape."""
        self._refuse(InvalidRequest("this is not a valid HTTP request"))

    def _await_headers(self) -> None:
        self._header_timer = self.loop.call_later(
            self.header_timeout_seconds, self._headers_are_late
        )

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_are_late(self) -> None:
        self._header_timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_headers()  # half a pipelined request: its answer is not due yet
        elif self._raw_bytes == 0:
            self.transport.close()  # connected and said nothing: nobody waits for an answer
        else:
            self._refuse(
                HeaderTimeout(
                    f"the headers took longer than {self.header_timeout_seconds:g} s; send faster"
                )
            )

    def _refuse_headers(self) -> None:
        self._refuse(
            HeadersTooLarge(
                f"the headers are over this server's limits of {self.max_header_bytes:,} bytes "
                f"and {MAX_HEADERS} fields; shorten them"
            )
        )

    def _refuse(self, error: LLMServeError) -> None:
        """Answer without the application, and close."""
        if self._is_refused:
            return
        self._is_refused = True
        self._cancel_header_timer()
        self._unset_keepalive_if_required()
        if self.cycle is None or self.cycle.response_complete:
            body = orjson.dumps(error_body(error))
            head = (
                STATUS_LINE[error.status],
                b"content-type: application/json\r\n",
                b"content-length: %d\r\n" % len(body),
                b"connection: close\r\n\r\n",
            )
            self.transport.write(b"".join((*head, body)))
        self.transport.close()
