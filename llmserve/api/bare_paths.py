"""OpenAI's routes without `/v1`, for clients whose base URL has none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

VERSION: Final = "/v1"


def without_version(routers: Iterable[APIRouter]) -> APIRouter:
    """The routes below `/v1` at their paths without it, except where these routers have a route
    of that path."""
    routes = [r for router in routers for r in router.routes if isinstance(r, APIRoute)]
    taken = {route.path for route in routes}
    bare = APIRouter()
    for route in routes:
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
