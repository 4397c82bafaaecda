"""OpenAI's routes without `/v1`, for clients whose base URL has none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

VERSION: Final = "/v1"


def without_version(routers: Iterable[APIRouter], others: Iterable[APIRouter]) -> APIRouter:
    """The routes of these routers that are below `/v1`, at their paths without it, except where
    one of the others has a route of that path."""
    taken = {route.path for route in _routes(others)}
    bare = APIRouter()
    for route in _routes(routers):
        path = route.path.removeprefix(VERSION)
        if route.path.startswith(VERSION + "/") and path not in taken:
            bare.routes.append(
                type(route)(
                    path,
                    route.endpoint,
                    methods=route.methods,
                    response_class=route.response_class,
                    include_in_schema=False,
                )
            )
    return bare


def _routes(routers: Iterable[APIRouter]) -> list[APIRoute]:
    return [r for router in routers for r in router.routes if isinstance(r, APIRoute)]
