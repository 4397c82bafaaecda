"""Server-sent events: ready-made bytes through sse-starlette. Knows no dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import orjson
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Send

from llmserve.bootstrap import Container
from llmserve.domain import Queued
from llmserve.service import Service

OPENING: Final = b": accepted\n\n"
"""Sent before prefill, so that proxies and clients see the stream begin."""

KeepAlive = Callable[[], ServerSentEvent | bytes]
"""What a quiet connection is sent."""


def data(payload: Any) -> bytes:
    """One event without a name."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def named(event: str, payload: Any) -> bytes:
    """One event with a name."""
    return b"event: " + event.encode() + b"\n" + data(payload)


def payload_of(event: bytes) -> bytes:
    """The JSON of an event that `data` made."""
    return event.removeprefix(b"data: ").removesuffix(b"\n\n")


def queued_comment(event: Queued) -> bytes:
    """A comment that tells a waiting client its position in the queue."""
    eta = "" if event.eta_seconds is None else f" eta_seconds={event.eta_seconds:.1f}"
    return f": queued position={event.position}{eta}\n\n".encode()


def comment() -> ServerSentEvent:
    """A keep-alive that no client sees."""
    return ServerSentEvent(comment="keep-alive", sep="\n")


def stream_response(
    frames: AsyncIterator[bytes], container: Container, keep_alive: KeepAlive = comment
) -> EventSourceResponse:
    """A response that sends frames as they come and keeps quiet connections alive.

    sse-starlette would cut the stream as soon as a foreign server (not `llmserve serve`) is
    told to exit; the grace period leaves that to our own drain.
    """
    return streamed(_opened(frames), container, keep_alive)


def streamed(
    frames: AsyncIterator[bytes],
    container: Container,
    keep_alive: KeepAlive,
    media_type: str = "text/event-stream",
) -> EventSourceResponse:
    """The same for frames of whichever kind, which `keep_alive` comes between."""
    settings = container.settings
    return _Stream(
        frames,
        media_type=media_type,
        ping=settings.keepalive_seconds,
        sep="\n",
        ping_message_factory=keep_alive,  # type: ignore[arg-type]  # bytes are sent as they are
        shutdown_event=_BeginsDrain(container.service),  # type: ignore[arg-type]  # only its `set` is called
        shutdown_grace_period=settings.drain_timeout_seconds,
    )


class _Stream(EventSourceResponse):
    """Sends without a timer per event, which would be a quarter of what an event costs: the
    connection itself gives up on readers that take nothing (`http_protocol`).

    Uvicorn decides whether the connection is kept."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers(headers)
        del self.headers["connection"]

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        await send(message)


async def _opened(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield OPENING
    async for frame in frames:
        yield frame


class _BeginsDrain:
    """In place of the event that sse-starlette sets when the server exits."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def set(self) -> None:
        self._service.begin_drain()
