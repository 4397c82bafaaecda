"""GET /: whether there is a server, as Ollama's clients ask. No key is asked for."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

router = APIRouter(tags=["ollama"], include_in_schema=False)


@router.head("/")
@router.get("/")
async def root() -> PlainTextResponse:
    """The words that its clients look for."""
    return PlainTextResponse("Ollama is running")
