"""POST / and POST /generate_stream, and GET /info. TGI's POST /generate is not here: that route is
our own."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from llmserve.api.answer import answer
from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import Exchange, TheExchange
from llmserve.api.tgi.body import RootBody, StreamBody
from llmserve.api.tgi.error import tgi_error
from llmserve.api.tgi.told_model import told_model
from llmserve.api.tgi.writer import TGIWriter
from llmserve.errors import ModelNotFound

OTHERS: Final = ["DELETE", "OPTIONS", "PATCH", "PUT", "TRACE"]
METHODS: Final = {"": "GET, HEAD, POST", "generate_stream": "POST", "info": "GET, HEAD"}
"""Of each path, by its last part; GET of the root is Ollama's."""

router = APIRouter(route_class=keyed_route(identify, tgi_error), tags=["tgi"])


@router.post("/", response_class=Response)
async def generate(body: RootBody, exchange: TheExchange) -> Response:
    """Continue a text, as text-generation-inference does."""
    return await _continue(body, exchange)


@router.post("/generate_stream", response_class=Response)
async def generate_stream(body: StreamBody, exchange: TheExchange) -> Response:
    """The same as server-sent events."""
    return await _continue(body, exchange)


@router.head("/info", include_in_schema=False)
@router.get("/info")
async def info(container: TheContainer, caller: TheCaller) -> Response:
    """The default model, and what requests may be."""
    model = container.registry.ready(None)
    if not caller.may_use(model.names):
        raise ModelNotFound(f"model {model.spec.name!r} is not served to this key", param="model")
    return JSON(told_model(model))


async def _continue(body: StreamBody, exchange: Exchange) -> Response:
    [generation] = await exchange.open(body)
    writer = TGIWriter(generation, body)
    return await answer(exchange, [generation], writer, is_streamed=body.is_streamed)


@router.api_route("/", methods=OTHERS, include_in_schema=False)
@router.api_route("/generate_stream", methods=[*OTHERS, "GET", "HEAD"], include_in_schema=False)
@router.api_route("/info", methods=[*OTHERS, "POST"], include_in_schema=False)
async def other_method(request: Request) -> None:
    """Refused in this dialect's shape."""
    raise HTTPException(405, headers={"Allow": METHODS[request.url.path.rpartition("/")[2]]})
