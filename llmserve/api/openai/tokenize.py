"""What a model's tokenizer and its chat template make of texts, in vLLM's and llama.cpp's shapes;
and how many tokens a chat has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from llmserve.api.container import identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.conversation_body import ConversationBody
from llmserve.api.openai.tokenize_body import DetokenizeBody, TokenizeBody, TokenizeText
from llmserve.domain import Prompt
from llmserve.domain.conversation import prompt_size
from llmserve.errors import NotFound
from llmserve.registry.served import ServedModel

if TYPE_CHECKING:
    from llmserve.text.tokenizer import Tokenizer

router = APIRouter(route_class=keyed_route(identify, openai_error), tags=["tokens"])


@router.post("/tokenize", response_class=Response)
async def tokenize(body: TokenizeBody, exchange: TheExchange) -> Response:
    """The tokens of a text or a conversation."""
    exchange.report_ignored(body)
    prompt: Prompt
    if isinstance(body, TokenizeText):
        prompt, has_special = body.prompt, body.add_special_tokens is not False
    else:
        prompt, has_special = await asyncio.to_thread(body.conversation), False
    model, (ids, pieces) = await _encoded(
        exchange,
        body.model,
        prompt,
        adds_special_tokens=has_special,
        with_pieces=bool(body.return_token_strs),
    )
    told = {
        "count": len(ids),
        "max_model_len": model.loaded_engine.info.max_context,
        "tokens": ids,
        "token_strs": pieces,
    }
    return await asyncio.to_thread(JSON, told)


@router.post("/detokenize", response_class=Response)
async def detokenize(body: DetokenizeBody, exchange: TheExchange) -> Response:
    """The text of tokens, special ones included."""
    exchange.report_ignored(body)

    def work(tokenizer: Tokenizer) -> str:
        tokenizer.check(body.tokens, param="tokens")
        return tokenizer.written(body.tokens)

    _, text = await exchange.read(body.model, work, len(body.tokens))
    return JSON({"prompt": text})


@router.get("/tokenizer_info", response_class=Response)
async def tokenizer_info(exchange: TheExchange, model: str | None = None) -> Response:
    """Special tokens and chat template, if the operator lets it be told."""
    if not exchange.container.settings.tokenizer_info:
        raise NotFound(
            "what the tokenizer is like is not told by this server; its operator can set "
            "`tokenizer_info`"
        )
    _, told = await exchange.read(model, lambda tokenizer: tokenizer.description)
    return JSON(told)


@router.post("/apply-template", response_class=Response)
async def apply_template(body: ConversationBody, exchange: TheExchange) -> Response:
    """A conversation as the model gets it, up to where its answer begins."""
    exchange.report_ignored(body)
    conversation = await asyncio.to_thread(body.conversation)
    size = prompt_size(conversation)
    _, text = await exchange.read(body.model, lambda one: one.render(conversation), size)
    return JSON({"prompt": text})


@router.post("/v1/chat/completions/input_tokens", response_class=Response)
async def input_tokens(body: ChatBody, exchange: TheExchange) -> Response:
    """How many tokens a chat's prompt has; the body is the one of /v1/chat/completions."""
    exchange.report_ignored(body)
    [conversation] = await asyncio.to_thread(body.prompts)
    _, (ids, _) = await _encoded(exchange, body.model, conversation)
    return JSON({"object": "response.input_tokens", "input_tokens": len(ids)})


async def _encoded(
    exchange: Exchange,
    model: str | None,
    prompt: Prompt,
    *,
    adds_special_tokens: bool = True,
    with_pieces: bool = False,
) -> tuple[ServedModel, tuple[list[int], list[str] | None]]:
    """The model, and the prompt's tokens; `with_pieces` as the vocabulary has them, too."""

    def work(tokenizer: Tokenizer) -> tuple[list[int], list[str] | None]:
        ids = tokenizer.encode(prompt, add_special_tokens=adds_special_tokens)
        return ids, tokenizer.pieces(ids) if with_pieces else None

    return await exchange.read(model, work, prompt_size(prompt))
