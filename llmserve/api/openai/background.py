"""A chat that is answered when there is time: put there by `background: true`, then asked for."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from fastapi import APIRouter, Response

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import Exchange
from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.stored_jobs import batch_of, jobs_of
from llmserve.errors import Conflict, StoreFailed
from llmserve.jobs.batch import CHAT_PREFIX, Batch, Kind, Status, Webhook
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.jobs import Jobs, new_id

ENDPOINT = "/v1/chat/completions"
OWN_FIELDS = ("background", "webhook_url")

router = APIRouter(
    prefix="/v1/chat/completions/{completion_id}",
    route_class=keyed_route(identify, openai_error),
    tags=["openai"],
)


@router.get("", response_class=Response)
async def retrieve(completion_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """A chat in the background: the whole answer, or how far it is."""
    jobs = jobs_of(container, "a chat completion's id", "completion_id")
    return JSON(await _told(jobs, await batch_of(jobs, caller, completion_id, Kind.CHAT)))


@router.post("/cancel", response_class=Response)
async def cancel(completion_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """End a chat in the background."""
    jobs = jobs_of(container, "a chat completion's id", "completion_id")
    batch = await batch_of(jobs, caller, completion_id, Kind.CHAT)
    while batch.is_open:  # it may go on meanwhile, once at most
        await jobs.cancel(batch)
        batch = await batch_of(jobs, caller, completion_id, Kind.CHAT)
    if batch.status is not Status.CANCELLED:
        raise Conflict(f"a chat completion that is {batch.status} cannot be cancelled")
    return JSON(await _told(jobs, batch))


@router.delete("", response_class=Response)
async def delete(completion_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """Forget a chat in the background; one that runs ends."""
    jobs = jobs_of(container, "a chat completion's id", "completion_id")
    batch = await batch_of(jobs, caller, completion_id, Kind.CHAT)
    await jobs.queue.remove(batch.id)
    await jobs.keeper.delete_file(batch.input_file_id)
    return JSON({"id": batch.id, "object": "chat.completion.deleted", "deleted": True})


async def begin(body: ChatBody, exchange: Exchange) -> Response:
    """Put a chat there, and tell how to ask for it.

    Raises:
        LLMServeError: this server has no queue, or the key no room in it; the URL may not be
            called; no such model.
    """
    container, caller = exchange.container, exchange.caller
    jobs = jobs_of(container, "`background: true`", "background")
    exchange.report_ignored(body)
    if body.webhook_url is not None:
        jobs.webhooks.check(body.webhook_url)
    if body.model is not None:
        container.registry.resolve(body.model)
    now = time.time()
    window = jobs.rules.max_window_seconds
    batch = Batch(
        id=new_id(CHAT_PREFIX),
        kind=Kind.CHAT,
        caller=caller.name,
        endpoint=ENDPOINT,
        input_file_id=new_id("file-"),
        window=f"{window:.0f}s",
        created_at=now,
        expires_at=now + window,
        metadata=None if body.model is None else {"model": body.model},
        webhook=None if body.webhook_url is None else Webhook(body.webhook_url),
    )
    text = await asyncio.to_thread(_line, batch, await exchange.request.body())
    file = BatchFile(
        id=batch.input_file_id,
        caller=caller.name,
        filename=batch.id,
        purpose=Purpose.REQUEST,
        size=len(text),
        created_at=now,
        expires_at=batch.expires_at + jobs.rules.keep_seconds,
    )
    try:
        async with jobs.new_file(file) as content:
            await asyncio.to_thread(content.write, text)
    except OSError as error:
        raise StoreFailed(f"the request cannot be kept now: {error.strerror}") from error
    await jobs.queue.put_file(file.complete(len(text)))
    try:
        await jobs.create(batch)
    except BaseException:
        await asyncio.shield(jobs.keeper.delete_file(file.id))
        raise
    return JSON(_resource(batch, "queued"), status_code=202)


def _line(batch: Batch, body: bytes) -> bytes:
    """The request as a line of a batch."""
    asked = {name: v for name, v in orjson.loads(body).items() if name not in OWN_FIELDS}
    line = {"custom_id": batch.id, "method": "POST", "url": ENDPOINT, "body": asked}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


async def _told(jobs: Jobs, batch: Batch) -> dict[str, Any]:
    """The answer with its state, or the state alone."""
    results = [] if batch.is_open else await jobs.queue.results(batch.id, 0, 1)
    told = _resource(batch, "in_progress" if batch.is_open else batch.status)
    if not results:
        problem = batch.errors[0] if batch.errors else None
        return told if problem is None else told | {"error": problem}
    line = orjson.loads(results[0].content)
    if line["response"] is None:
        return told | {"error": line["error"]}
    body: dict[str, Any] = line["response"]["body"]
    if not results[0].is_success:
        return told | {"error": body["error"]}
    return told | body


def _resource(batch: Batch, status: str) -> dict[str, Any]:
    return {
        "id": batch.id,
        "object": "chat.completion",
        "created": int(batch.created_at),
        "model": (batch.metadata or {}).get("model"),
        "background": True,
        "status": status,
        "error": None,
        "choices": [],
    }
