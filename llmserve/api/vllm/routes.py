"""POST /v1/score and POST /classify, in vLLM's shapes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Response

from llmserve.api.container import identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.probabilities import probabilities
from llmserve.api.vllm.body import ClassifyBody, ScoreBody
from llmserve.domain import EncodingAnswer

router = APIRouter(route_class=keyed_route(identify, openai_error), tags=["scores"])


@router.post("/v1/score", response_class=Response)
async def score(body: ScoreBody, exchange: TheExchange) -> Response:
    """How well pairs of texts go together."""
    answer = await exchange.encode(body)
    data = [
        {"index": index, "object": "score", "score": vector[0]}
        for index, vector in enumerate(answer.vectors)
    ]
    return JSON(_told("score", data, answer, exchange))


@router.post("/classify", response_class=Response)
async def classify(body: ClassifyBody, exchange: TheExchange) -> Response:
    """Of which class texts are."""
    answer = await exchange.encode(body)

    def told() -> Response:
        raw = body.use_activation is False
        data = [_class(answer, index, is_raw=raw) for index in range(len(answer.vectors))]
        return JSON(_told("classify", data, answer, exchange))

    return await asyncio.to_thread(told)  # many inputs of many classes are a million numbers


def _class(answer: EncodingAnswer, index: int, *, is_raw: bool) -> dict[str, Any]:
    told = answer.vectors[index].tolist() if is_raw else probabilities(answer, index)
    best = max(range(len(told)), key=told.__getitem__)
    label = answer.labels[best]
    return {"index": index, "label": label, "probs": told, "num_classes": len(told)}


def _told(
    kind: str, data: list[dict[str, Any]], answer: EncodingAnswer, exchange: Exchange
) -> dict[str, Any]:
    tokens = sum(answer.tokens)
    return {
        "id": f"{kind}-{exchange.request.scope['request_id']}",
        "object": "list",
        "created": int(time.time()),
        "model": answer.model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }
