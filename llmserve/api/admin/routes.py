"""/admin: load and unload models on every worker of the box; how the workers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from loguru import logger

from llmserve.api.admin.access import TheAdmin, identify_admin
from llmserve.api.admin.schemas import CommandBody, LoadBody, UnloadBody, UpstreamBody, WarmBody
from llmserve.api.container import TheContainer
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.sse import named, stream_response
from llmserve.bootstrap import Container
from llmserve.operations.command import Command, Kind
from llmserve.operations.operations import WorkerReply

router = APIRouter(
    prefix="/admin", route_class=keyed_route(identify_admin, openai_error), tags=["admin"]
)

STATUS_SECONDS: Final = 0.5
CHANGING: Final = ("uptime_seconds", "rss_bytes")


@router.head("/status", include_in_schema=False)
@router.get("/status")
async def status(container: TheContainer) -> Response:
    """Every worker and its models, as it reports them; and the workers that did not answer."""
    workers, silent = await _status(container)
    return JSON({"workers": workers, "silent": silent})


@router.get("/events", response_class=Response)
async def events(container: TheContainer, follow: Annotated[bool, Query()] = True) -> Response:
    """The status as server-sent events: now, and whenever it changes."""
    return stream_response(_changes(container, follow=follow), container)


@router.post("/load")
async def load(
    body: LoadBody, request: Request, container: TheContainer, admin: TheAdmin
) -> Response:
    """Load a model: one that is served, a folder under models/, or a hub id; or an adapter."""
    return await _run(body, Kind.LOAD, container, admin.name)


@router.post("/unload")
async def unload(body: UnloadBody, container: TheContainer, admin: TheAdmin) -> Response:
    """Unload a model or an adapter: open streams get `timeout` seconds to finish."""
    return await _run(body, Kind.UNLOAD, container, admin.name)


@router.post("/reload")
async def reload(body: CommandBody, container: TheContainer, admin: TheAdmin) -> Response:
    """Load a model again, with its model.toml; the old one finishes its streams meanwhile."""
    return await _run(body, Kind.RELOAD, container, admin.name)


@router.post("/warm")
async def warm(body: WarmBody, container: TheContainer, admin: TheAdmin) -> Response:
    """Run prompts for a few tokens and pin prefixes; loads an on-demand model."""
    return await _run(body, Kind.WARM, container, admin.name)


@router.post("/drain")
async def drain(body: UpstreamBody, container: TheContainer, admin: TheAdmin) -> Response:
    """Send no more requests to an upstream of a model; those that it has are finished."""
    return await _run(body, Kind.DRAIN, container, admin.name)


@router.post("/undrain")
async def undrain(body: UpstreamBody, container: TheContainer, admin: TheAdmin) -> Response:
    """Send requests to an upstream again."""
    return await _run(body, Kind.UNDRAIN, container, admin.name)


async def _run(body: CommandBody, kind: Kind, container: Container, admin: str) -> Response:
    command = body.command(kind)
    logger.info("{}: {} {}", admin, kind.value, command.model or "(the default model)")
    if body.stream:
        return stream_response(_messages(command, container), container)
    # A command goes on when its client hangs up: half a load helps nobody.
    replies = await asyncio.shield(container.operations.collect(command))
    return _report(command, replies)


async def _messages(command: Command, container: Container) -> AsyncIterator[bytes]:
    last: dict[int, WorkerReply] = {}
    async for reply in container.operations.run(command):
        last[reply.worker] = reply
        if not reply.is_last:
            fields = {k: v for k, v in reply.message.items() if k != "event"}
            yield named("progress", {"worker": reply.worker} | fields)
    report = _body(command, [last[number] for number in sorted(last)])
    yield named("done" if report["ok"] else "error", report)


def _report(command: Command, replies: Sequence[WorkerReply]) -> Response:
    """200 when every worker did it; else the first error's status, in the error shape."""
    body = _body(command, replies)
    first = next((r.message["error"] for r in replies if r.message["event"] == "error"), None)
    return JSON(body, status_code=first["status"] if first is not None else 200)


def _body(command: Command, replies: Sequence[WorkerReply]) -> dict[str, Any]:
    workers = []
    for reply in replies:
        fields = {k: v for k, v in reply.message.items() if k != "event"}
        if "error" in fields:
            fields["error"] = _shown(fields["error"])
        workers.append({"worker": reply.worker, "ok": "error" not in fields} | fields)
    ok = all(worker["ok"] for worker in workers)
    body: dict[str, Any] = {"command": command.kind.value, "ok": ok, "workers": workers}
    if not ok:
        body["error"] = next(w["error"] for w in workers if not w["ok"])
    return body


def _shown(error: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in error.items() if k != "status"}


async def _status(container: Container) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What workers say about themselves, and an error for each that does not answer."""
    replies = await container.operations.collect(Command(Kind.STATUS))
    return (
        [r.message["status"] for r in replies if r.message["event"] == "done"],
        [
            {"worker": r.worker, "error": _shown(r.message["error"])}
            for r in replies
            if r.message["event"] == "error"
        ],
    )


async def _changes(container: Container, *, follow: bool) -> AsyncIterator[bytes]:
    last: object = None
    while True:
        now, silent = await _status(container)
        essence = [{k: v for k, v in worker.items() if k not in CHANGING} for worker in now], silent
        if essence != last:
            last = essence
            yield named("status", {"workers": now, "silent": silent})
        if not follow or container.service.is_draining:
            yield named("done", {})
            return
        await asyncio.sleep(STATUS_SECONDS)
