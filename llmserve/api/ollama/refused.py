"""What of Ollama's API is not served here, and what does it instead."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from llmserve.api.container import identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.ollama.error import ollama_error
from llmserve.errors import InvalidRequest

router = APIRouter(
    prefix="/api",
    route_class=keyed_route(identify, ollama_error, takes_any_type=True),
    tags=["ollama"],
    include_in_schema=False,
)

OPERATOR: Final = (
    "models are the operator's: `llmserve pull`, models_dir and /admin/load serve them"
)
EMBEDDINGS: Final = "no model of this server makes embeddings"


def _refuse(path: str, method: str, why: str) -> None:
    async def refuse() -> Response:
        raise InvalidRequest(f"/api{path} is not served here: {why}")

    router.add_api_route(path, refuse, methods=[method])


for _path in ("/pull", "/push", "/create", "/copy"):
    _refuse(_path, "POST", OPERATOR)
_refuse("/delete", "DELETE", OPERATOR)
_refuse("/blobs/{digest}", "POST", OPERATOR)
_refuse("/blobs/{digest}", "HEAD", OPERATOR)
for _path in ("/embed", "/embeddings"):
    _refuse(_path, "POST", EMBEDDINGS)
