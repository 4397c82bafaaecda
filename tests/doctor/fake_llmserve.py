"""A server that behaves like llmserve on the routes that the doctor asks, at a pace of our own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware.gzip import GZipMiddleware

MAX_TOKENS = 1500
"""The context of the model that is not there."""

START_SECONDS = 20.0


@dataclass
class Behaviour:
    """What a test may bend. Written by the test, read by the server's thread."""

    pace_seconds: float = 0.005
    hold_bytes: int = 0
    silence_seconds: float = 0.0
    keepalive_seconds: float | None = None
    api_key: str | None = None
    status: str = "ready"
    warnings: list[str] = field(default_factory=list)
    has_metrics: bool = True
    notices_hang_up: bool = True
    is_busy: bool = False
    running: int = 0
    cancelled: int = 0
    seen_ids: list[str] = field(default_factory=list)


def error(status: int, message: str) -> JSONResponse:
    kind = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": kind}, status_code=status)


def create_app(behaviour: Behaviour) -> FastAPI:
    app = FastAPI(description="Long enough to be compressed. " * 100)
    app.add_middleware(GZipMiddleware, minimum_size=1024)

    def refusal(request: Request | WebSocket) -> Response | None:
        given = request.headers.get("authorization")
        if behaviour.api_key is None or given == f"Bearer {behaviour.api_key}":
            return None
        return error(401, "no API key" if given is None else "this API key is not valid")

    @app.middleware("http")
    async def with_id(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Request-ID"] = request.headers.get("x-request-id", "made-here")
        return response

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        is_ready = behaviour.status == "ready"
        body: dict[str, Any] = {
            "status": behaviour.status,
            "models": [{"name": "fake", "warnings": behaviour.warnings}],
        }
        return JSONResponse(body, status_code=200 if is_ready else 503)

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        if not behaviour.has_metrics:
            return error(401, "a key with the scope metrics is needed")
        return Response(
            f'llmserve_num_requests_running{{model="fake"}} {behaviour.running}.0\n'
            f'llmserve_request_cancelled_total{{model="fake"}} {behaviour.cancelled}.0\n'
        )

    @app.get("/v1/models", response_model=None)
    async def models(request: Request) -> Response:
        body = {"object": "list", "data": [{"id": "fake", "aliases": ["alias"]}]}
        return refusal(request) or JSONResponse(body)

    @app.get("/v1/models/{model}", response_model=None)
    async def model(request: Request, model: str) -> Response:
        return refusal(request) or error(404, f"no model {model}")

    @app.post("/generate", response_model=None)
    async def generate(request: Request) -> Response:
        if (refused := refusal(request)) is not None:
            return refused
        if behaviour.is_busy:
            return error(429, "every slot is taken")
        body = await request.json()
        if "suffix" in body:
            return error(400, "'suffix' is not supported by this server")
        return StreamingResponse(
            held_back(stream(body), behaviour.hold_bytes),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def stream(body: dict[str, Any]) -> AsyncIterator[bytes]:
        behaviour.running += 1
        try:
            yield b": accepted\n\n"
            async for _ in silence():
                yield b": keep-alive\n\n"
            for i in range(min(body["max_tokens"], MAX_TOKENS)):
                await asyncio.sleep(behaviour.pace_seconds)
                token = json.dumps({"token": f" word{i:04}"}).encode()
                yield b"id: 4f0a\ndata: " + token + b"\n\n"
            yield b'id: 4f0a\nevent: done\ndata: {"finish_reason": "length"}\n\n'
        except (asyncio.CancelledError, GeneratorExit):
            if behaviour.notices_hang_up:
                behaviour.cancelled += 1
            raise
        finally:
            behaviour.running -= int(behaviour.notices_hang_up)

    async def silence() -> AsyncIterator[None]:
        left = behaviour.silence_seconds
        while left > 0:
            step = min(left, behaviour.keepalive_seconds or left)
            await asyncio.sleep(step)
            left -= step
            if behaviour.keepalive_seconds is not None:
                yield

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        if (refused := refusal(socket)) is not None:
            await socket.send_denial_response(refused)
            return
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await converse(socket, await socket.receive_json())

    async def converse(socket: WebSocket, prompt: dict[str, Any]) -> None:
        frame = {"id": prompt["id"]}
        cancel = asyncio.create_task(socket.receive_json())
        try:
            for i in range(min(prompt["max_tokens"], MAX_TOKENS)):
                await socket.send_json(frame | {"type": "token", "token": f" word{i}"})
                done, _ = await asyncio.wait({cancel}, timeout=behaviour.pace_seconds)
                if done:
                    cancel.result()
                    await socket.send_json(frame | {"type": "done", "finish_reason": "cancelled"})
                    return
            await socket.send_json(frame | {"type": "done", "finish_reason": "length"})
        finally:
            cancel.cancel()

    return app


async def held_back(stream: AsyncIterator[bytes], num_bytes: int) -> AsyncIterator[bytes]:
    """What a buffering proxy does: nothing moves until so many bytes are there."""
    buffer = b""
    async with contextlib.aclosing(stream):
        async for part in stream:
            buffer += part
            if len(buffer) >= num_bytes:
                yield buffer
                buffer = b""
    if buffer:
        yield buffer


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[int]:
    """The fake on a free loopback port, in a thread of its own; stopped at the end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(behaviour),
                log_level="error",
                timeout_graceful_shutdown=1,
                lifespan="off",
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + START_SECONDS
            while not server.started:
                assert thread.is_alive(), "the fake did not start"
                assert time.monotonic() < deadline, "the fake takes too long to start"
                time.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)
            assert not thread.is_alive()
