"""POST /generate and GET /stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.disconnect import unless_client_leaves
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.edge.timeouts import HeaderTimeout, earliest
from llmserve.api.errors import error_body
from llmserve.api.ignored import tell_ignored
from llmserve.api.native.schemas import (
    GenerateAnswer,
    GenerateBody,
    StreamQuery,
    UsageOut,
    done,
)
from llmserve.api.sse import data, named, queued_comment, stream_response
from llmserve.domain import Delta, Failed, Finish, Queued
from llmserve.service import Generation

router = APIRouter(route_class=keyed_route(identify), tags=["native"])


@dataclass(frozen=True, slots=True)
class Opened:
    """A request that holds its ticket."""

    generation: Generation
    is_streamed: bool


async def open_body(
    body: GenerateBody,
    request: Request,
    container: TheContainer,
    caller: TheCaller,
    timeout: HeaderTimeout,
) -> AsyncIterator[Opened]:
    """Take a ticket for POST /generate; given back on every way out of the request."""
    tell_ignored(body, request, container, caller)
    wanted = body.request(request.scope["request_id"], earliest(body.timeout, timeout))
    async with container.service.open(wanted, caller) as generation:
        yield Opened(generation, body.stream)


async def open_query(
    query: Annotated[StreamQuery, Query()],
    request: Request,
    container: TheContainer,
    caller: TheCaller,
    timeout: HeaderTimeout,
) -> AsyncIterator[Opened | None]:
    """Take a ticket for GET /stream; none for a browser that reconnects."""
    if "last-event-id" in request.headers:
        yield None
        return
    tell_ignored(query, request, container, caller)
    wanted = query.request(request.scope["request_id"], earliest(query.timeout, timeout))
    async with container.service.open(wanted, caller) as generation:
        yield Opened(generation, is_streamed=True)


@router.post("/generate", response_model=GenerateAnswer)
async def generate(
    request: Request, container: TheContainer, opened: Annotated[Opened, Depends(open_body)]
) -> Response:
    """Continue a prompt; with `stream` as server-sent events."""
    generation = opened.generation
    if opened.is_streamed:
        return stream_response(_frames(generation), container)
    answer = await unless_client_leaves(request, generation.collect())
    return JSON(
        GenerateAnswer(
            id=generation.id,
            model=generation.model,
            result=answer.text,
            finish_reason=answer.finish.reason.value,
            usage=UsageOut.of(answer.finish.usage),
        ).model_dump()
    )


@router.get("/stream", response_class=Response)
async def stream(
    container: TheContainer, opened: Annotated[Opened | None, Depends(open_query)]
) -> Response:
    """Continue a prompt as server-sent events, for the browser's EventSource.

    Events `{"token": …}`, then one `done` (or `error`) event. A browser reconnects when a
    stream ends; it then sends the last event's id, and 204 tells it to stay away.
    """
    if opened is None:
        return Response(status_code=204)
    return stream_response(_frames(opened.generation), container)


async def _frames(generation: Generation) -> AsyncIterator[bytes]:
    # With every event: not all clients remember an id that comes by itself, and some hand such a
    # frame on as an event without data.
    own_id = f"id: {generation.id}\n".encode()
    async for event in generation.events():
        match event:
            case Delta(text, _) if text:
                yield own_id + data({"token": text})
            case Queued():
                yield queued_comment(event)
            case Finish():
                yield own_id + named("done", done(generation.id, event))
            case Failed(error, usage):
                body = error_body(error) | {"usage": UsageOut.of(usage).model_dump()}
                yield own_id + named("error", body)
