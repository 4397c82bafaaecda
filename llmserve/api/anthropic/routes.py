"""POST /v1/messages and POST /v1/messages/count_tokens, and what is below them and not served."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from llmserve.api.answer import answer
from llmserve.api.anthropic.access import identify_by_key
from llmserve.api.anthropic.body import CountBody, MessagesBody
from llmserve.api.anthropic.error import anthropic_error
from llmserve.api.anthropic.headers import anthropic_headers
from llmserve.api.anthropic.writer import MessageWriter, ping
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.ignored import tell_ignored_header
from llmserve.errors import NotFound

BETA: Final = "anthropic-beta"
OTHERS: Final = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]

router = APIRouter(
    prefix="/v1/messages",
    route_class=keyed_route(identify_by_key, anthropic_error, anthropic_headers),
    tags=["anthropic"],
)


@router.post("", response_class=Response)
async def messages(body: MessagesBody, exchange: TheExchange) -> Response:
    """Continue a conversation, in Anthropic's words."""
    [generation] = await exchange.open(body)
    _tell_beta(exchange)
    writer = MessageWriter(
        generation, stop_sequences=body.stops, shows_thinking=body.shows_thinking
    )
    return await answer(
        exchange, [generation], writer, is_streamed=bool(body.stream), keep_alive=ping
    )


@router.post("/count_tokens", response_class=Response)
async def count_tokens(body: CountBody, exchange: TheExchange) -> JSON:
    """How many tokens a conversation has, with its tools."""
    count = await exchange.count(body)
    _tell_beta(exchange)
    return JSON({"input_tokens": count})


@router.api_route("", methods=OTHERS, include_in_schema=False)
@router.api_route("/count_tokens", methods=OTHERS, include_in_schema=False)
async def other_method() -> None:
    """Refused in this dialect's shape."""
    raise HTTPException(405, headers={"Allow": "POST"})


@router.api_route("/batches", methods=[*OTHERS, "POST"], include_in_schema=False)
@router.api_route("/batches/{rest:path}", methods=[*OTHERS, "POST"], include_in_schema=False)
async def batches() -> None:
    """Refused."""
    raise NotFound(
        "this server has no message batches; send each request to /v1/messages, many at a time"
    )


@router.api_route("/{rest:path}", methods=[*OTHERS, "POST"], include_in_schema=False)
async def unknown() -> None:
    """Refused in this dialect's shape."""
    raise HTTPException(404)


def _tell_beta(exchange: Exchange) -> None:
    tell_ignored_header(BETA, exchange.request, exchange.container, exchange.caller)
