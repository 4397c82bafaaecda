"""POST /v1/chat/completions and POST /v1/completions."""

from __future__ import annotations

from fastapi import APIRouter, Response

from llmserve.api.answer import answer
from llmserve.api.container import identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import TheExchange
from llmserve.api.openai import background
from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.chat_writer import ChatWriter
from llmserve.api.openai.completion_body import CompletionBody
from llmserve.api.openai.completion_writer import CompletionWriter

router = APIRouter(prefix="/v1", route_class=keyed_route(identify, openai_error), tags=["openai"])


@router.post("/chat/completions", response_class=Response)
async def chat_completions(body: ChatBody, exchange: TheExchange) -> Response:
    """Continue a conversation."""
    if body.background:
        return await background.begin(body, exchange)
    generations = await exchange.open(body)
    writer = ChatWriter(
        generations,
        choices_per_prompt=body.choices_per_prompt,
        shown=body.shown,
    )
    return await answer(exchange, generations, writer, is_streamed=bool(body.stream))


@router.post("/completions", response_class=Response)
async def completions(body: CompletionBody, exchange: TheExchange) -> Response:
    """Continue one or several prompts."""
    generations = await exchange.open(body)
    writer = CompletionWriter(
        generations,
        choices_per_prompt=body.choices_per_prompt,
        shown=body.shown,
        num_top=body.logprobs,
        echoed=body.echoed,
    )
    return await answer(exchange, generations, writer, is_streamed=bool(body.stream))
