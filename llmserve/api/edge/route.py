"""Routes that ask who is calling before they read the body, and read it within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope

from llmserve.api.container import container_of
from llmserve.api.edge.body import BoundedBody
from llmserve.api.edge.json import StrictJSONRequest
from llmserve.api.error_shape import ErrorShape, set_error_shape
from llmserve.api.own_headers import OwnHeaders, openai_headers, set_own_headers
from llmserve.api.validation import invalid_request
from llmserve.bootstrap import Container
from llmserve.domain import Caller

LARGE_BYTES: Final = 2**18
"""A larger body is parsed and validated in a thread: 4 MB can take a second."""

Identify = Callable[[HTTPConnection, Container], Awaitable[Caller]]


def keyed_route(
    identify: Identify,
    error_shape: ErrorShape,
    own_headers: OwnHeaders = openai_headers,
    *,
    takes_any_type: bool = False,
    is_upload: bool = False,
) -> type[APIRoute]:
    """The route class for a router whose callers `identify` lets in, whose errors look like
    `error_shape`, and whose responses have `own_headers`. With `takes_any_type` a body is JSON
    whatever its Content-Type says, unless a web page sends it; with `is_upload` it is a file.

    FastAPI reads and parses a body before it calls any dependency: it would read a stranger's
    megabytes, and say what is wrong with them, before anybody asked for a key.
    """

    class KeyedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            field = self.body_field

            async def keyed(request: Request) -> Response:
                set_error_shape(request.scope, error_shape)
                set_own_headers(request.scope, own_headers)
                container = container_of(request.scope)
                await identify(request, container)
                if takes_any_type and "origin" not in request.headers:
                    _call_json(request.scope)
                settings = container.settings
                body = BoundedBody(
                    request.headers,
                    request.receive,
                    settings.max_upload_bytes if is_upload else settings.max_body_bytes,
                    settings.upload_timeout_seconds if is_upload else settings.body_timeout_seconds,
                )
                return await handle(_KeyedRequest(request.scope, body, field))

            return keyed

    return KeyedRoute


def _call_json(scope: Scope) -> None:
    """`curl -d` says that it sends a form."""
    others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    scope["headers"] = [*others, (b"content-type", b"application/json")]


class _KeyedRequest(StrictJSONRequest):
    """A request to a route whose body is `field`, as FastAPI calls it."""

    def __init__(self, scope: Scope, receive: Receive, field: Any) -> None:
        super().__init__(scope, receive)
        self._field = field

    async def json(self) -> Any:
        """The parsed body. A large one is validated here, too; FastAPI then leaves it as it is.

        Raises:
            InvalidRequest: a large one is not what the route takes.
        """
        if len(await self.body()) <= LARGE_BYTES or self._field is None:
            return await super().json()
        return await asyncio.to_thread(self._validated, await self.body())

    def _validated(self, body: bytes) -> Any:
        sent = self.parsed(body)
        value, errors = self._field.validate(sent, {}, loc=("body",))
        if errors:
            raise invalid_request(errors, sent)
        return value
