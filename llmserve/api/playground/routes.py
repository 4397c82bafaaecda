"""The web pages: the chat at `/` for browsers, `/status`, and the files that they load.

No key is asked for: the pages hold nothing, and whatever they call asks for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from llmserve.api.playground.files import HEADERS, StaticFile, read_files

CHAT: Final = "index.html"
STATUS: Final = "status.html"
HTML: Final = "text/html"


class BrowserRoute(APIRoute):
    """A route that is there only for who takes HTML; others go on to Ollama's of the same path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this route answers."""
        if scope["type"] == "http" and HTML in Headers(scope=scope).get("accept", ""):
            return super().matches(scope)
        return Match.NONE, {}


def playground_router() -> APIRouter:
    """The pages' routes; reads their files."""
    files = read_files()
    router = APIRouter(include_in_schema=False)

    async def chat(request: Request) -> Response:
        return _answer(files, CHAT, request)

    async def status(request: Request) -> Response:
        return _answer(files, STATUS, request)

    async def chat_elsewhere(request: Request) -> Response:
        # The page's own addresses are relative to the server's root.
        return RedirectResponse(request.scope.get("root_path", "").rstrip("/") + "/")

    async def file(name: str, request: Request) -> Response:
        return _answer(files, name, request)

    methods = ["GET", "HEAD"]
    router.routes.append(BrowserRoute("/", chat, methods=methods, include_in_schema=False))
    router.add_api_route("/status", status, methods=methods)
    router.add_api_route("/playground", chat_elsewhere, methods=methods)
    router.add_api_route("/playground/", chat_elsewhere, methods=methods)
    router.add_api_route("/playground/{name:path}", file, methods=methods)
    return router


def _answer(files: Mapping[str, StaticFile], name: str, request: Request) -> Response:
    """The file, or that the browser has it. The answer at `/` depends on what the client takes."""
    found = files.get(name)
    if found is None:
        raise HTTPException(404)
    headers = dict(HEADERS) | {"ETag": found.etag, "Vary": "Accept"}
    if _has(request, found.etag):
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def _has(request: Request, etag: str) -> bool:
    known = request.headers.get("if-none-match", "")
    return etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
