"""POST /v2/embed and its older form, POST /v1/embed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson
from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from llmserve.api.cohere.embed_body import EmbedBody
from llmserve.api.cohere.error import cohere_error
from llmserve.api.container import identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.numbers import array, base64, numbers_response, separated
from llmserve.domain import EncodingAnswer

WRITE: Final = {"float": array, "base64": base64}
OTHERS: Final = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE"]

router = APIRouter(route_class=keyed_route(identify, cohere_error), tags=["embeddings"])


@router.post("/v1/embed", response_class=Response)
async def embed_floats(body: EmbedBody, exchange: TheExchange) -> Response:
    """Vectors of texts; where no type is asked for, as one array."""
    if body.embedding_types is not None:
        return await embed(body, exchange)
    answer = await exchange.encode(body)
    return await numbers_response(_floats(answer, body, exchange), answer.num_numbers)


@router.post("/v2/embed", response_class=Response)
async def embed(body: EmbedBody, exchange: TheExchange) -> Response:
    """Vectors of texts, by how they are written."""
    answer = await exchange.encode(body)
    types = list(dict.fromkeys(body.embedding_types or ["float"]))
    return await numbers_response(
        _by_type(answer, body, types, exchange), answer.num_numbers * len(types)
    )


@router.api_route("/v1/embed", methods=OTHERS, include_in_schema=False)
@router.api_route("/v2/embed", methods=OTHERS, include_in_schema=False)
async def other_method() -> None:
    """Refused in this dialect's shape."""
    raise HTTPException(405, headers={"Allow": "POST"})


def _floats(answer: EncodingAnswer, body: EmbedBody, exchange: Exchange) -> Iterator[bytes]:
    yield b'{"response_type":"embeddings_floats","embeddings":['
    yield from separated(map(array, answer.vectors))
    yield b"]," + _rest(answer, body, exchange, "1")


def _by_type(
    answer: EncodingAnswer, body: EmbedBody, types: list[str], exchange: Exchange
) -> Iterator[bytes]:
    yield b'{"response_type":"embeddings_by_type","embeddings":{'
    for number, kind in enumerate(types):
        yield b'%b"%b":[' % (b"," if number else b"", kind.encode())
        yield from separated(map(WRITE[kind], answer.vectors))
        yield b"]"
    yield b"}," + _rest(answer, body, exchange, "2")


def _rest(answer: EncodingAnswer, body: EmbedBody, exchange: Exchange, version: str) -> bytes:
    """All but the numbers, without the brace at the beginning."""
    tokens = sum(answer.tokens)
    told = {
        "id": exchange.request.scope["request_id"],
        "model": answer.model,
        "texts": body.texts,
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"input_tokens": tokens},
            "tokens": {"input_tokens": tokens},
        },
    }
    return orjson.dumps(told)[1:]
