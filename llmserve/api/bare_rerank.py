"""POST /rerank, a path that several vendors have: a body with `texts` is
text-embeddings-inference's, and gets its answer; others are Cohere's, Jina's and vLLM's."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Discriminator, Tag

from llmserve.api.cohere.body import RerankBody
from llmserve.api.cohere.error import cohere_error
from llmserve.api.cohere.routes import OTHERS, other_method, reranked
from llmserve.api.container import identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import set_error_shape
from llmserve.api.exchange import TheExchange
from llmserve.api.tei import routes as tei
from llmserve.api.tei.body import TextsBody
from llmserve.api.tei.error import tei_error

router = APIRouter(route_class=keyed_route(identify, cohere_error), tags=["rerank"])


def _kind(sent: Any) -> str:
    is_tei = "texts" in sent if isinstance(sent, dict) else isinstance(sent, TextsBody)
    return "[texts]" if is_tei else "[documents]"


router.add_api_route("/rerank", other_method, methods=OTHERS, include_in_schema=False)

Body = Annotated[
    Annotated[TextsBody, Tag("[texts]")] | Annotated[RerankBody, Tag("[documents]")],
    Discriminator(_kind),
]


@router.post("/rerank", response_class=Response)
async def rerank(body: Body, exchange: TheExchange) -> Response:
    """Documents in the order of how well they answer a query."""
    if isinstance(body, TextsBody):
        set_error_shape(exchange.request.scope, tei_error)
        return await tei.rerank(body, exchange)
    return await reranked(body, exchange)
