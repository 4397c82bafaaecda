"""JSON in and out through orjson: strict about NaN, UTF-8, surrogates and depth."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute


class JSON(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Serialize with orjson."""
        return orjson.dumps(content)


class StrictJSONRequest(Request):
    """A request whose body is parsed by orjson, which refuses what json.loads lets through."""

    async def json(self) -> Any:
        """The parsed body.

        Raises:
            orjson.JSONDecodeError: a json.JSONDecodeError, which FastAPI answers with a 4xx.
        """
        return orjson.loads(await self.body())


class StrictJSONRoute(APIRoute):
    """A route that reads its body through `StrictJSONRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictJSONRequest(request.scope, request.receive))

        return strict
