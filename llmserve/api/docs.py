"""`/docs`: a page to try every route, and what it reads, `/openapi.json`. We serve its scripts, so
it needs no internet."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from llmserve.api.edge.json import JSON
from llmserve.api.examples import with_examples

ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
"""Swagger UI's files, from the package fastapi-swagger."""

router = APIRouter(include_in_schema=False)


@router.head("/docs")
@router.get("/docs")
async def docs(request: Request) -> Response:
    """The page."""
    root = request.scope.get("root_path", "").rstrip("/")
    script, style, icon = (f"{root}/docs/{name}" for name in ASSETS)
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="llmserve",
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url=icon,
    )


@router.head("/openapi.json")
@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Every route and its fields, for programs. It takes half a second to make, the first time."""
    # Once: FastAPI makes it in a way that two threads cannot at the same time.
    async with request.app.state.making_document:
        schema = await asyncio.to_thread(_document, request.app)
    root = request.scope.get("root_path", "").rstrip("/")
    return JSON(schema | {"servers": [{"url": root}]} if root else schema)


def _document(app: FastAPI) -> dict[str, Any]:
    return with_examples(app.openapi())


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """A file that the page loads."""
    if name not in ASSETS:
        raise HTTPException(404)
    path = files("fastapi_swagger") / "resources" / name
    return FileResponse(
        str(path), media_type=ASSETS[name], headers={"Cache-Control": "max-age=3600"}
    )
