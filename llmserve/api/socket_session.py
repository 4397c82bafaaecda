"""One WebSocket: several prompts, each with an id, and cancel in band. Knows no dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import orjson
from fastapi import WebSocket
from loguru import logger
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from llmserve.api.container import container_of, identify
from llmserve.api.edge.route import LARGE_BYTES
from llmserve.api.edge.timeouts import header_timeout
from llmserve.api.error_shape import openai_error
from llmserve.api.errors import error_response
from llmserve.api.ignored import MAX_REPORTED, report_ignored
from llmserve.api.socket_frames import (
    CancelFrame,
    Frame,
    SocketPrompt,
    error_frame,
    id_of,
    queued_frame,
)
from llmserve.api.validation import invalid_request
from llmserve.bootstrap import Container
from llmserve.checked_json import checked_json
from llmserve.domain import Caller, Queued, Terminal
from llmserve.errors import Forbidden, InvalidRequest, LLMServeError, ServerError
from llmserve.service import Generation
from llmserve.timer import awake_timeout

T = TypeVar("T")

SUBPROTOCOL: Final = "llmserve"


Parse = Callable[[Any], SocketPrompt]
"""A prompt's frame, from the JSON that a client sent."""


async def serve_socket(socket: WebSocket, parse: Parse) -> None:
    """Serve one socket until its client leaves."""
    container = container_of(socket.scope)
    try:
        _check_origin(socket, container)
        await identify(socket, container)
        timeout = header_timeout(socket)
    except LLMServeError as refusal:
        await socket.send_denial_response(error_response(refusal, openai_error))
        return
    await socket.accept(
        # A browser that sends its key as a subprotocol wants another one to be chosen.
        subprotocol=SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", ()) else None
    )
    await SocketSession(socket, container, parse, timeout).serve()


class SocketSession:
    """One socket. A slow reader blocks only the sends: deltas merge while it does not read."""

    def __init__(
        self, socket: WebSocket, container: Container, parse: Parse, timeout: float | None
    ) -> None:
        self._socket = socket
        self._container = container
        self._parse = parse
        self._timeout = timeout
        self._sending = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._generations: dict[str, Generation] = {}
        self._cancelled_early: set[str] = set()
        self._ignored: dict[str, list[str]] = {}

    async def serve(self) -> None:
        """Read frames until the client leaves, then end what it started."""
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._take(message.get("text") or message.get("bytes") or b"")
        except (WebSocketDisconnect, RuntimeError) as gone:
            # Starlette raises RuntimeError for a send on a socket that closed meanwhile.
            logger.debug("socket closed: {}", type(gone).__name__)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take(self, raw: str | bytes) -> None:
        frame_id = None
        try:
            depth = self._container.settings.max_json_depth
            is_large = len(raw) > LARGE_BYTES
            content = await _aside(is_large, checked_json, raw, depth)
            frame_id = id_of(content)
            if isinstance(content, dict) and content.get("type") == "cancel":
                self._cancel(await _aside(is_large, CancelFrame.model_validate, content))
            else:
                self._start(await _aside(is_large, self._parse, content))
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            await self._refuse(frame_id, InvalidRequest("the frame is not valid JSON"))
        except ValidationError as error:
            await self._refuse(frame_id, invalid_request(error.errors(), content))
        except LLMServeError as error:
            await self._refuse(frame_id, error)

    async def _refuse(self, frame_id: str | None, error: LLMServeError) -> None:
        await self._send(error_frame(frame_id, error))

    def _start(self, frame: SocketPrompt) -> None:
        if frame.id in self._tasks:
            raise InvalidRequest(f"id {frame.id!r} is still in use on this socket", param="id")
        most = self._container.settings.websocket_max_prompts
        if len(self._tasks) >= most:
            raise InvalidRequest(
                f"this socket runs {most} prompts, the most it may; wait for one to end",
                param="id",
            )
        task = asyncio.create_task(self._generate(frame), name=f"ws-{frame.id}")
        self._tasks[frame.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(frame.id, None))

    def _cancel(self, frame: CancelFrame) -> None:
        self._report_ignored(frame, self._socket.scope["caller"])
        generation = self._generations.get(frame.id)
        if generation is not None:
            generation.cancel()
        elif frame.id in self._tasks:
            self._cancelled_early.add(frame.id)  # it has no ticket yet
        # else: it ended while the cancel was on its way, and its last frame says how.

    async def _generate(self, frame: SocketPrompt) -> None:
        """One prompt, whose last frame is always done or error."""
        request_id = f"{self._socket.scope['request_id']}/{frame.id}"[:256]
        try:
            requests = await _aside(frame.is_long, frame.requests, request_id, self._timeout)
            # Anew for each prompt: a key may have been revoked since the socket was opened.
            caller = await identify(self._socket, self._container)
            self._report_ignored(frame, caller)
            async with self._container.service.open(requests[0], caller) as generation:
                self._generations[frame.id] = generation
                if frame.id in self._cancelled_early:
                    generation.cancel()
                await self._answer(frame, generation)
        except LLMServeError as error:
            await self._fail(frame.id, error)
        except (WebSocketDisconnect, RuntimeError) as gone:
            logger.debug("socket closed: {}", type(gone).__name__)
        # The WebSocket boundary: a bug ends this prompt, not the socket.
        except Exception:
            logger.exception("unexpected error")
            await self._fail(frame.id, ServerError("an unexpected error; see the log"))
        finally:
            self._generations.pop(frame.id, None)
            self._ignored.pop(frame.id, None)
            self._cancelled_early.discard(frame.id)

    async def _answer(self, frame: SocketPrompt, generation: Generation) -> None:
        write = frame.writer(generation)
        async for event in generation.events():
            if isinstance(event, Queued):
                await self._send(queued_frame(frame.id, event))
                continue
            frames = list(write(event))
            if isinstance(event, Terminal):
                last = frames.pop()
                for one in frames:
                    await self._send(one)
                await self._send_last(last)
            else:
                for one in frames:
                    await self._send(one)

    def _report_ignored(self, frame: SocketPrompt | CancelFrame, caller: Caller) -> None:
        fields = report_ignored(frame, self._socket, self._container, caller)
        if fields and frame.id in self._tasks:
            names = dict.fromkeys([*self._ignored.get(frame.id, ()), *fields])
            self._ignored[frame.id] = list(names)[:MAX_REPORTED]

    async def _fail(self, frame_id: str, error: LLMServeError) -> None:
        await self._send_last(error_frame(frame_id, error))

    async def _send_last(self, frame: Frame) -> None:
        ignored = self._ignored.get(frame["id"])
        await self._send(frame | ({"ignored_fields": ignored} if ignored else {}))

    async def _send(self, frame: Frame) -> None:
        async with self._sending:
            try:
                async with awake_timeout(self._container.settings.send_timeout_seconds):
                    await self._socket.send_text(orjson.dumps(frame).decode())
            except TimeoutError:
                logger.info("the client takes nothing: its socket is closed")
                raise WebSocketDisconnect(1006) from None


async def _aside(is_large: bool, work: Callable[..., T], *arguments: Any) -> T:
    """The result of `work`; in a thread if the frame is large: others' streams must not wait."""
    return await asyncio.to_thread(work, *arguments) if is_large else work(*arguments)


def _check_origin(socket: WebSocket, container: Container) -> None:
    """Only pages of this server and of `cors_origins`: WebSockets have no CORS preflight.

    Raises:
        Forbidden: a page from elsewhere.
    """
    origin = socket.headers.get("origin")
    if origin is None:
        return
    authority = _authority(origin)
    if authority and authority == socket.headers.get("host"):
        return
    if not {"*", origin} & set(container.settings.cors_origins):
        raise Forbidden(
            "pages of this origin may not connect; the operator can add it to cors_origins"
        )


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # half an IPv6 address, say: no browser sends that
        return None
