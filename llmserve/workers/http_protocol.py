"""Bounds on what a client may do before the application sees its request: on headers, on the time
they take, on pipelined requests, and on how long it may read nothing. Extends Uvicorn's httptools
protocol; `websocket_protocol` does the same for WebSockets.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from llmserve.address import unmapped
from llmserve.errors import HeadersTooLarge, HeaderTimeout, InvalidRequest, LLMServeError
from llmserve.timer import Timer
from llmserve.workers.close_delimited import close_delimited
from llmserve.workers.http_parser import UPGRADE, RequestParser
from llmserve.workers.refusal import refusal

WEBSOCKET: Final = b"websocket"
MAX_HEADERS: Final = 128
MAX_PIPELINED: Final = 16
"""How many requests may wait behind the one being answered. Clients that pipeline send a few."""


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


class Socket(Protocol):
    """The protocol that takes a connection over once it is a WebSocket's."""

    def take_early(self, data: bytes) -> None:
        """Take the bytes that were received together with the handshake."""
        ...

    def pause_writing(self) -> None:
        """The transport's buffer is full, until `resume_writing`."""
        ...


class _BoundedProtocol(HttpToolsProtocol):
    """Also counts raw bytes that are not part of a body: headers, trailers and chunk extensions,
    which httptools alone would collect without limit."""

    max_header_bytes: int
    header_timeout_seconds: float
    send_timeout_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self)  # type: ignore[assignment]  # has what Uvicorn calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as Uvicorn has it
        super().connection_made(transport)
        if self.client is not None:
            self.client = (unmapped(self.client[0]), self.client[1])
        self._is_in_headers = True
        self._is_in_body = False
        self._is_refused = False
        self._overhead_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._header_timer: Timer | None = None
        self._body_timer: Timer | None = None
        self._send_timer: Timer | None = None
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timers()
        super().connection_lost(exc)
        # Uvicorn notifies only the newest request; with pipelining, another one is in progress.
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._overhead_bytes += len(data)
        if self._is_in_headers and self._header_timer is None:
            self._await_headers()
        super().data_received(data)
        if self._overhead_bytes > self.max_header_bytes:
            self._refuse_headers()

    def eof_received(self) -> None:
        self._await_reader()  # asyncio closes as soon as everything is written

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_headers:  # trailers are ignored
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._overhead_bytes = 0
        self._cancel_header_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.max_header_bytes or len(self.headers) > MAX_HEADERS:
            self._refuse_headers()
        elif not (self._is_refused or self.ignores_upgrade()):
            super().on_headers_complete()
            self._is_in_body = True
            self._bound_pipeline()

    def ignores_upgrade(self) -> bool:
        """Whether this request's `Upgrade` is ignored; `RequestParser` then reads it again."""
        return (
            not self._is_refused
            and self.parser.should_upgrade()
            and self.parser.get_method() != b"CONNECT"  # llhttp treats it as an upgrade, too
            and not self._should_upgrade()
        )

    def _should_upgrade(self) -> bool:
        """Whether this is a WebSocket handshake: an HTTP/1.1 GET without a body (RFC 6455, section
        4.1) with `websocket` among the protocols in `Upgrade` (RFC 9110, section 7.8). Whether the
        handshake is complete is checked later."""
        protocols: list[bytes] = []
        for name, value in self.headers:
            if name == UPGRADE:
                protocols += (protocol.strip().lower() for protocol in value.split(b","))
            elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
                return False
        return (
            WEBSOCKET in protocols
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
        )

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes = 0
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_headers = True
        self._is_in_body = False
        self._overhead_bytes = 0
        if self._is_refused or self.ignores_upgrade():
            return
        super().on_message_complete()
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()
        elif self.cycle.response_complete and self.cycle.more_body:
            # The response did not need the body. The client may send the rest, so that the
            # connection can be used again, but only for a limited time.
            self._body_timer = Timer(self.header_timeout_seconds, self._close)

    def timeout_keep_alive_handler(self) -> None:
        if not self.transport.is_closing():
            self._close()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._await_reader()

    def handle_websocket_upgrade(self) -> None:
        if self._is_refused:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # A pipelined handshake, which no WebSocket client sends: both would write at once.
            self._end_with_answers()
            return
        self._unset_keepalive_if_required()
        self._cancel_timers()
        kept = [field for field in self.headers if field[0] not in (UPGRADE, b"connection")]
        self.scope["headers"] = [*kept, (UPGRADE, WEBSOCKET), (b"connection", b"Upgrade")]
        super().handle_websocket_upgrade()
        socket = cast(Socket, self.transport.get_protocol())
        socket.take_early(cast(RequestParser, self.parser).rest)
        if self.flow.write_paused:
            socket.pause_writing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None and not self.transport.is_closing():
            self._send_timer.cancel()
            self._send_timer = None

    def send_400_response(self, msg: str) -> None:
        """Called by Uvicorn for what is not HTTP; answers in the shape of all our errors."""
        self._refuse(InvalidRequest("this is not a valid HTTP request"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        if cycle.scope["http_version"] == "1.0":
            app = close_delimited(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _bound_pipeline(self) -> None:
        """Limit pipelined requests, of which Uvicorn reads any number. Over the bound, the last
        accepted request is answered with `Connection: close`, so that the client knows."""
        if len(self.pipeline) <= MAX_PIPELINED:
            return
        self._drop_newest()
        self._end_with_answers()

    def _drop_newest(self) -> None:
        self.pipeline.popleft()
        before = self.pipeline[0][0] if self.pipeline else self._answering
        assert before is not None, "a pipelined request waits for one that is being answered"
        self.cycle = before

    def _end_with_answers(self) -> None:
        """Read nothing more; close the connection after the answer to the newest request."""
        self._is_refused = True
        self.cycle.keep_alive = False

    def _cancel_timers(self) -> None:
        for timer in (self._header_timer, self._body_timer, self._send_timer):
            if timer is not None:
                timer.cancel()

    def _await_headers(self) -> None:
        self._header_timer = Timer(self.header_timeout_seconds, self._headers_are_late)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _await_reader(self) -> None:
        """Bound the time for closing or writing, which a client that never reads could block."""
        if self._send_timer is None:
            self._send_timer = Timer(self.send_timeout_seconds, self.transport.abort)

    def _close(self) -> None:
        self.transport.close()
        self._await_reader()

    def _headers_are_late(self) -> None:
        self._header_timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_headers()  # part of a pipelined request: its answer is not due yet
        elif self._overhead_bytes == 0:
            self._close()  # the client sent nothing and expects no answer
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
        """Answer with an error, without the application, after the answers that are due; close."""
        if self._is_refused:
            return
        self._is_refused = True
        self._cancel_header_timer()
        self._unset_keepalive_if_required()
        is_due = self.cycle is not None and not self.cycle.response_complete
        if is_due and self._is_in_body and self.pipeline:
            self._drop_newest()  # the request at fault
            self._end_with_answers()
        elif is_due and not self._is_in_body:
            self._end_with_answers()
        elif is_due and not self.cycle.response_started:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._close_with(error)
        elif is_due or self._is_in_body:
            self._close()  # this request has been answered, at least in part
        else:
            self._close_with(error)

    def _close_with(self, error: LLMServeError) -> None:
        self.transport.write(refusal(error))
        self._close()
