"""POST /api/embed and POST /api/embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from fastapi import APIRouter, Response

from llmserve.api.container import identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import TheExchange
from llmserve.api.numbers import array, numbers_response, separated
from llmserve.api.ollama.embed_body import EmbedBody, OldEmbedBody
from llmserve.api.ollama.error import ollama_error
from llmserve.api.ollama.loading import keep, load, with_kept
from llmserve.api.ollama.writer import nanoseconds
from llmserve.clock import awake_clock
from llmserve.domain import EncodingAnswer

router = APIRouter(
    prefix="/api",
    route_class=keyed_route(identify, ollama_error, takes_any_type=True),
    tags=["ollama"],
)


@router.post("/embed", response_class=Response)
async def embed(body: EmbedBody, exchange: TheExchange) -> Response:
    """Vectors of texts, as Ollama does."""
    begun = awake_clock()
    body, kept = with_kept(body, exchange)
    if not body.input:
        name, _ = await load(body, exchange, kept)
        return JSON({"model": name, "embeddings": []})
    answer = await exchange.encode(body)
    keep(body, exchange, kept)
    took = nanoseconds(begun, awake_clock())
    return await numbers_response(_written(answer, took), answer.num_numbers)


@router.post("/embeddings", response_class=Response)
async def embeddings(body: OldEmbedBody, exchange: TheExchange) -> Response:
    """The vector of a text, as Ollama did before."""
    body, kept = with_kept(body, exchange)
    if not body.prompt:
        await load(body, exchange, kept)
        return JSON({"embedding": []})
    answer = await exchange.encode(body)
    keep(body, exchange, kept)
    [vector] = answer.vectors
    return await numbers_response((b'{"embedding":', array(vector), b"}"), len(vector))


def _written(answer: EncodingAnswer, took: int) -> Iterator[bytes]:
    yield b'{"model":%b,"embeddings":[' % orjson.dumps(answer.model)
    yield from separated(map(array, answer.vectors))
    counts = {
        "total_duration": took,
        "load_duration": min(took, nanoseconds(0.0, answer.queue_seconds)),
        "prompt_eval_count": sum(answer.tokens),
    }
    yield b"]," + orjson.dumps(counts)[1:]
