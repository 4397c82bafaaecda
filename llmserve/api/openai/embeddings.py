"""POST /v1/embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from fastapi import APIRouter, Response

from llmserve.api.container import identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import TheExchange
from llmserve.api.numbers import array, base64, numbers_response
from llmserve.api.openai.embedding_body import EmbeddingBody
from llmserve.domain import EncodingAnswer

router = APIRouter(prefix="/v1", route_class=keyed_route(identify, openai_error), tags=["openai"])


@router.post("/embeddings", response_class=Response)
async def embeddings(body: EmbeddingBody, exchange: TheExchange) -> Response:
    """Vectors of texts."""
    answer = await exchange.encode(body)
    written = _written(answer, is_base64=body.encoding_format == "base64")
    return await numbers_response(written, answer.num_numbers)


def _written(answer: EncodingAnswer, *, is_base64: bool) -> Iterator[bytes]:
    write = base64 if is_base64 else array
    yield b'{"object":"list","data":['
    for index, vector in enumerate(answer.vectors):
        yield b"," if index else b""
        yield b'{"object":"embedding","index":%d,"embedding":%b}' % (index, write(vector))
    tokens = sum(answer.tokens)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield b'],"model":%b,"usage":%b}' % (orjson.dumps(answer.model), orjson.dumps(usage))
