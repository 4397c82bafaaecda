"""What of Ollama's API is not served here, and what does it instead; after all others that are
below `/api`."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

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
METHODS: Final = {
    **dict.fromkeys(("chat", "embed", "embeddings", "generate", "show"), "POST"),
    **dict.fromkeys(("tags", "ps", "version"), "GET, HEAD"),
}
"""Of those that are served."""


def _refuse(path: str, method: str, why: str) -> None:
    async def refuse() -> Response:
        raise InvalidRequest(f"/api{path} is not served here: {why}")

    router.add_api_route(path, refuse, methods=[method])


for _path in ("/pull", "/push", "/create", "/copy"):
    _refuse(_path, "POST", OPERATOR)
_refuse("/delete", "DELETE", OPERATOR)
_refuse("/blobs/{digest}", "POST", OPERATOR)
_refuse("/blobs/{digest}", "HEAD", OPERATOR)


@router.api_route(
    "/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
)
async def unknown(rest: str) -> None:
    """Refused in this dialect's shape."""
    if rest in METHODS:
        raise HTTPException(405, headers={"Allow": METHODS[rest]})
    raise HTTPException(404)
