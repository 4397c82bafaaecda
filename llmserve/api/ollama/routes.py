"""POST /api/chat and POST /api/generate."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from llmserve.api.answer import answer
from llmserve.api.container import identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.ndjson import stream_lines
from llmserve.api.ollama.body import OllamaBody
from llmserve.api.ollama.chat_body import ChatBody
from llmserve.api.ollama.error import ollama_error
from llmserve.api.ollama.generate_body import GenerateBody
from llmserve.api.ollama.loading import keep, load, with_kept
from llmserve.api.ollama.writer import ChatWriter, GenerateWriter, OllamaWriter
from llmserve.errors import InvalidRequest
from llmserve.registry.served import ServedModel

router = APIRouter(
    prefix="/api",
    route_class=keyed_route(identify, ollama_error, takes_any_type=True),
    tags=["ollama"],
)


@router.post("/chat", response_class=Response)
async def chat(body: ChatBody, exchange: TheExchange) -> Response:
    """Continue a conversation, as Ollama does."""
    return await _answer(body, exchange, ChatWriter)


@router.post("/generate", response_class=Response)
async def generate(body: GenerateBody, exchange: TheExchange) -> Response:
    """Answer a prompt, as Ollama does."""
    return await _answer(body, exchange, GenerateWriter)


async def _answer(body: OllamaBody, exchange: Exchange, write: type[OllamaWriter]) -> Response:
    body, kept = with_kept(body, exchange)
    if body.asks_to_load:
        name, reason = await load(body, exchange, kept)
        head = {"model": name, "created_at": datetime.now(UTC)}
        return JSON({**head, **write.said("", "", []), "done": True, "done_reason": reason})
    [generation] = await exchange.open(body)
    if body.think:
        _check_thinks(generation.served)
    keep(body, exchange, kept)
    writer = write(generation, shows_thinking=body.shows_thinking)
    return await answer(
        exchange,
        [generation],
        writer,
        is_streamed=body.stream,
        keep_alive=writer.quiet_line,
        stream=stream_lines,
    )


def _check_thinks(model: ServedModel) -> None:
    """
    Raises:
        InvalidRequest: it has no way to think before it answers.
    """
    syntax = model.loaded_engine.info.syntax
    if syntax is None or not syntax.has_reasoning:
        raise InvalidRequest(
            f"{model.spec.name!r} does not support thinking; leave `think` out", param="think"
        )
