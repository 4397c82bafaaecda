"""Requests of this server to its own routes: checked, limited and answered as any other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Message

from llmserve.api.container import INSIDE
from llmserve.api.error_shape import openai_error
from llmserve.bootstrap import Container
from llmserve.domain import Caller
from llmserve.errors import Unauthorized
from llmserve.jobs.answered import Answered, RunLine

JSON: Final = b"application/json"


def line_runner(app: ASGIApp, container: Container) -> RunLine:
    """Runs lines of batches on the routes of this application, as background work of the key that
    made the batch: what the key may do is looked up again for each line."""

    async def run_line(url: str, body: bytes, *, caller: str, request_id: str) -> Answered:
        try:
            known = container.keys.named(caller)
        except Unauthorized as error:
            return Answered(error.status, {}, orjson.dumps(openai_error(error)))
        return await _post(app, url, body, replace(known, is_background=True), request_id)

    return run_line


@contextlib.asynccontextmanager
async def working_on_batches(app: ASGIApp, container: Container) -> AsyncIterator[None]:
    """Within the context this worker runs lines of batches, if there is a queue of them."""
    if container.jobs is None:
        yield
        return
    service = container.service

    def is_closing() -> bool:
        return service.is_draining or service.is_retiring

    async with container.jobs.working(line_runner(app, container), container.metrics, is_closing):
        yield


async def _post(app: ASGIApp, path: str, body: bytes, caller: Caller, request_id: str) -> Answered:
    sent: list[Message] = []
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        await asyncio.Event().wait()  # nobody hangs up
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope(path, len(body), caller, request_id), receive, send)
    start = next(one for one in sent if one["type"] == "http.response.start")
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    content = b"".join(one.get("body", b"") for one in sent)
    return Answered(start["status"], headers, content)


def _scope(path: str, length: int, caller: Caller, request_id: str) -> dict[str, Any]:
    headers = {
        b"host": b"localhost",
        b"content-type": JSON,
        b"content-length": str(length).encode(),
        b"x-request-id": request_id.encode(),
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers.items()),
        "client": None,
        "server": None,
        INSIDE: caller,
    }
