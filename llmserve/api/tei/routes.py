"""text-embeddings-inference's POST /embed, /predict and /similarity, and what it has beside them
that is not served. Its POST /rerank shares a path with others' (`api/bare_rerank.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from math import fsum
from typing import Any, Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from llmserve.api.container import identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.numbers import array, numbers_response, separated
from llmserve.api.probabilities import probabilities
from llmserve.api.ranking import ranked
from llmserve.api.tei.body import EmbedBody, PredictBody, SimilarityBody, TextsBody
from llmserve.api.tei.error import tei_error
from llmserve.domain import EncodingAnswer
from llmserve.errors import InvalidRequest

SERVED: Final = ("/embed", "/predict", "/similarity")
REFUSED: Final = ("/embed_sparse", "/embed_all")
OTHERS: Final = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE"]

router = APIRouter(route_class=keyed_route(identify, tei_error), tags=["tei"])


@router.post("/embed", response_class=Response)
async def embed(body: EmbedBody, exchange: TheExchange) -> Response:
    """Vectors of texts, as a bare array."""
    answer = await exchange.encode(body)
    return await numbers_response(_arrays(answer), answer.num_numbers)


@router.post("/predict", response_class=Response)
async def predict(body: PredictBody, exchange: TheExchange) -> Response:
    """The classes of texts, the likeliest first."""
    answer = await exchange.encode(body)
    is_raw = bool(body.raw_scores)

    def told() -> Response:
        classes = [_classes(answer, i, is_raw=is_raw) for i in range(len(answer.vectors))]
        return JSON(classes[0] if body.is_one else classes)

    return await asyncio.to_thread(told)  # many inputs of many classes are a million numbers


@router.post("/similarity", response_class=Response)
async def similarity(body: SimilarityBody, exchange: TheExchange) -> Response:
    """The cosine of a text's vector and each of others'."""
    answer = await exchange.encode(body)

    def told() -> Response:
        source, *others = (vector.tolist() for vector in answer.vectors)
        return JSON([fsum(map(float.__mul__, source, other)) for other in others])

    return await asyncio.to_thread(told)


async def rerank(body: TextsBody, exchange: Exchange) -> Response:
    """Texts in the order of how well they answer a query."""
    answer = await exchange.encode(body)
    return JSON(
        [
            {"index": one.index, "score": one.score}
            | ({"text": body.texts[one.index]} if body.return_text else {})
            for one in ranked(answer)
        ]
    )


def _arrays(answer: EncodingAnswer) -> Iterator[bytes]:
    yield b"["
    yield from separated(map(array, answer.vectors))
    yield b"]"


def _classes(answer: EncodingAnswer, index: int, *, is_raw: bool) -> list[dict[str, Any]]:
    scores = answer.vectors[index].tolist() if is_raw else probabilities(answer, index)
    told = [
        {"score": score, "label": label} for score, label in zip(scores, answer.labels, strict=True)
    ]
    return sorted(told, key=lambda one: -one["score"])


def _refuse(path: str) -> None:
    async def refuse() -> None:
        raise InvalidRequest(
            f"{path} is not served here: models give one vector for each text; send it to /embed"
        )

    router.add_api_route(path, refuse, methods=["POST"], include_in_schema=False)


async def _other_method() -> None:
    """Refused in this dialect's shape."""
    raise HTTPException(405, headers={"Allow": "POST"})


for _path in REFUSED:
    _refuse(_path)
for _path in (*SERVED, *REFUSED):
    router.add_api_route(_path, _other_method, methods=OTHERS, include_in_schema=False)
