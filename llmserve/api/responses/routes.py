"""POST /v1/responses and POST /v1/responses/input_tokens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from fastapi import APIRouter, Response

from llmserve.api.answer import answer, frames_of
from llmserve.api.container import identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.responses.body import ResponseBody
from llmserve.api.responses.count_body import CountBody
from llmserve.api.responses.keeping import Keeper, wants_store
from llmserve.api.responses.resource import Resource
from llmserve.api.responses.stored_items import resolve
from llmserve.api.responses.writer import ResponseWriter
from llmserve.api.sse import stream_response
from llmserve.service import Generation

router = APIRouter(prefix="/v1", route_class=keyed_route(identify, openai_error), tags=["openai"])


@router.post("/responses", response_class=Response)
async def create(body: ResponseBody, exchange: TheExchange) -> Response:
    """Continue a conversation of items."""
    store, caller = exchange.container.responses, exchange.caller.name
    is_stored = wants_store(body, store)
    await resolve(body, store, caller)
    if body.background:
        return await _in_background(body, exchange)
    [generation] = await exchange.open(body)
    resource = Resource(body, generation.model, generation.sampling, is_stored=is_stored)
    writer = _writer(body, generation, resource)
    if store is None or not is_stored:
        return await answer(exchange, [generation], writer, is_streamed=bool(body.stream))
    keeper = Keeper(store, caller, body, resource)
    if body.stream:
        frames = keeper.until_kept(frames_of([generation], writer), writer)
        return stream_response(frames, exchange.container)
    response = await answer(exchange, [generation], writer, is_streamed=False)
    await keeper.keep_if_possible(writer.whole_response)
    return response


@router.post("/responses/input_tokens", response_class=Response)
async def count(body: CountBody, exchange: TheExchange) -> Response:
    """How many tokens the input of a response would have."""
    await resolve(body, exchange.container.responses, exchange.caller.name)
    tokens = await exchange.count(body)
    return JSON({"object": "response.input_tokens", "input_tokens": tokens})


async def _in_background(body: ResponseBody, exchange: Exchange) -> Response:
    """The generation is the store's, not the client's, who may leave."""
    store = exchange.container.responses
    assert store is not None, "checked before"
    async with AsyncExitStack() as opened:
        [generation] = await replace(exchange, opened=opened).open(body)
        resource = Resource(body, generation.model, generation.sampling, is_stored=True)
        writer = _writer(body, generation, resource)
        keeper = Keeper(store, exchange.caller.name, body, resource)
        queued = writer.so_far("queued")
        await keeper.keep(queued)
        await store.background.start(
            resource.id, keeper.generate(generation, writer, opened.pop_all())
        )
    return JSON(queued)


def _writer(body: ResponseBody, generation: Generation, resource: Resource) -> ResponseWriter:
    return ResponseWriter(
        [generation],
        resource,
        tells_logprobs=body.tells_logprobs,
        tells_reasoning=body.include_reasoning is not False,
    )
