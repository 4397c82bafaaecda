"""Routes that ask who it is before they read a body, and read it within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from llmserve.api.body import BoundedBody
from llmserve.api.container import get_container
from llmserve.api.json import StrictJSONRequest
from llmserve.bootstrap import Container
from llmserve.domain import Caller

Identify = Callable[[HTTPConnection, Container], Awaitable[Caller]]


def keyed_route(identify: Identify) -> type[APIRoute]:
    """The route class for a router whose callers `identify` lets in.

    FastAPI reads and parses a body before it calls any dependency: a stranger's megabytes would
    be taken in, and told what is wrong with them, before anybody asked for a key.
    """

    class KeyedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def keyed(request: Request) -> Response:
                container = get_container(request)
                await identify(request, container)
                settings = container.settings
                body = BoundedBody(
                    request.headers,
                    request.receive,
                    settings.max_body_bytes,
                    settings.body_timeout_seconds,
                )
                return await handle(StrictJSONRequest(request.scope, body))

            return keyed

    return KeyedRoute
