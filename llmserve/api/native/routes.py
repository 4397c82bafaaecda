"""POST /generate and GET /stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from llmserve.api.answer import answer
from llmserve.api.container import identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.native.resuming import place_of, read_on, resumable
from llmserve.api.native.schemas import GenerateAnswer, GenerateBody, PromptQuery, StreamQuery
from llmserve.api.native.writer import NativeWriter

router = APIRouter(route_class=keyed_route(identify, openai_error), tags=["native"])


@router.post("/generate", response_model=GenerateAnswer)
async def generate(body: GenerateBody, exchange: TheExchange) -> Response:
    """Continue a prompt; with `stream` as server-sent events."""
    return await _continue(exchange, body, is_streamed=body.stream)


@router.get("/stream", response_class=Response)
async def stream(
    query: Annotated[StreamQuery, Query()], request: Request, exchange: TheExchange
) -> Response:
    """Continue a prompt as server-sent events, for the browser's EventSource.

    Events `{"token": …}`, then one `done` (or `error`) event. A browser reconnects when a
    stream ends; it then sends the last event's id, and 204 tells it to stay away. Where
    `stream_resume_seconds` is set, one whose connection was cut reads on.
    """
    last = request.headers.get("last-event-id")
    if last is not None:
        return await read_on(exchange, *place_of(last))
    [generation] = await exchange.open(query)
    return resumable(exchange, generation)


@router.get("/stream/{stream_id:path}", response_class=Response)
async def stream_again(
    stream_id: str,
    request: Request,
    exchange: TheExchange,
    after: Annotated[int, Query(ge=0, description="The number of the last event seen.")] = 0,
) -> Response:
    """Read a stream of `GET /stream` on, from the event behind `after` or `Last-Event-ID`.

    204 says that it is over, or no longer kept.
    """
    last = request.headers.get("last-event-id")
    return await read_on(exchange, stream_id, after if last is None else place_of(last)[1])


async def _continue(exchange: Exchange, prompt: PromptQuery, *, is_streamed: bool) -> Response:
    [generation] = await exchange.open(prompt)
    return await answer(exchange, [generation], NativeWriter(generation), is_streamed=is_streamed)
