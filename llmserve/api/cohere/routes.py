"""POST /v1/rerank and POST /v2/rerank."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from llmserve.api.cohere.body import RerankBody
from llmserve.api.cohere.error import cohere_error
from llmserve.api.container import identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.ranking import Ranked, ranked

OTHERS: Final = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE"]

router = APIRouter(route_class=keyed_route(identify, cohere_error), tags=["rerank"])


@router.post("/v1/rerank", response_class=Response)
@router.post("/v2/rerank", response_class=Response)
async def rerank(body: RerankBody, exchange: TheExchange) -> Response:
    """Documents in the order of how well they answer a query."""
    return await reranked(body, exchange)


@router.api_route("/v1/rerank", methods=OTHERS, include_in_schema=False)
@router.api_route("/v2/rerank", methods=OTHERS, include_in_schema=False)
async def other_method() -> None:
    """Refused in this dialect's shape."""
    raise HTTPException(405, headers={"Allow": "POST"})


async def reranked(body: RerankBody, exchange: Exchange) -> Response:
    """The answer, which has what Cohere's, Jina's and vLLM's clients look for."""
    answer = await exchange.encode(body)
    tokens = sum(answer.tokens)
    return JSON(
        {
            "id": exchange.request.scope["request_id"],
            "model": answer.model,
            "results": [_result(one, body) for one in ranked(answer, body.top_n)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": {"api_version": {"version": "2"}, "tokens": {"input_tokens": tokens}},
        }
    )


def _result(one: Ranked, body: RerankBody) -> dict[str, Any]:
    told: dict[str, Any] = {"index": one.index, "relevance_score": one.score}
    if body.return_documents:
        told["document"] = {"text": body.documents[one.index].text}
    return told
