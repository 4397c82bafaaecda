"""POST /v1/responses."""

from __future__ import annotations

from fastapi import APIRouter, Response

from llmserve.api.answer import answer
from llmserve.api.container import identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import TheExchange
from llmserve.api.responses.body import ResponseBody
from llmserve.api.responses.resource import Resource
from llmserve.api.responses.writer import ResponseWriter

router = APIRouter(prefix="/v1", route_class=keyed_route(identify, openai_error), tags=["openai"])


@router.post("/responses", response_class=Response)
async def create(body: ResponseBody, exchange: TheExchange) -> Response:
    """Continue a conversation of items."""
    generations = await exchange.open(body)
    [generation] = generations
    writer = ResponseWriter(
        generations,
        Resource(body, generation.model, generation.sampling),
        tells_logprobs=body.tells_logprobs,
        tells_reasoning=body.include_reasoning is not False,
    )
    return await answer(exchange, generations, writer, is_streamed=bool(body.stream))
