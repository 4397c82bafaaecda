"""Routes that ask who it is before they read a body, and read it within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope

from llmserve.api.container import get_container
from llmserve.api.edge.body import BoundedBody
from llmserve.api.edge.json import StrictJSONRequest
from llmserve.api.errors import validation_message
from llmserve.bootstrap import Container
from llmserve.domain import Caller
from llmserve.errors import InvalidRequest

LARGE_BYTES: Final = 2**18
"""Over it, a body is parsed and validated in a thread: 4 MB of it can take a second."""

Identify = Callable[[HTTPConnection, Container], Awaitable[Caller]]


def keyed_route(identify: Identify) -> type[APIRoute]:
    """The route class for a router whose callers `identify` lets in.

    FastAPI reads and parses a body before it calls any dependency: a stranger's megabytes would
    be taken in, and told what is wrong with them, before anybody asked for a key.
    """

    class KeyedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            field = self.body_field

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
                return await handle(_KeyedRequest(request.scope, body, field))

            return keyed

    return KeyedRoute


class _KeyedRequest(StrictJSONRequest):
    """A request for `field`, FastAPI's word for what a route takes as its body."""

    def __init__(self, scope: Scope, receive: Receive, field: Any) -> None:
        super().__init__(scope, receive)
        self._field = field

    async def json(self) -> Any:
        """The parsed body; a large one is already what the route takes, which FastAPI leaves as
        it is.

        Raises:
            InvalidRequest: a large one is not what the route takes.
        """
        if len(await self.body()) <= LARGE_BYTES or self._field is None:
            return await super().json()
        return await asyncio.to_thread(self._validated, await self.body())

    def _validated(self, body: bytes) -> Any:
        value, errors = self._field.validate(self.parsed(body), {}, loc=("body",))
        if errors:
            message, param = validation_message(errors)
            raise InvalidRequest(message, param=param)
        return value
