"""JSON in and out through orjson: strict about NaN, UTF-8, surrogates and depth."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from llmserve.errors import InvalidRequest

STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
OPENERS: Final = b"[{"
NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


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
        return checked_json(await self.body(), _max_depth(self))


def checked_json(body: bytes | str, max_depth: int) -> Any:
    """Parse, and refuse what is nested too deeply for the code behind.

    orjson itself refuses more than 1,024 levels, NaN and invalid UTF-8; of duplicate keys the last
    one counts.

    Raises:
        orjson.JSONDecodeError: not JSON.
        InvalidRequest: nested too deeply.
    """
    parsed = orjson.loads(body)
    raw = body.encode() if isinstance(body, str) else body
    if raw.count(b"[") + raw.count(b"{") > max_depth and _depth(raw, max_depth) > max_depth:
        raise InvalidRequest(
            f"the JSON is nested deeper than this server's limit of {max_depth} levels; flatten it"
        )
    return parsed


def _depth(body: bytes, enough: int) -> int:
    """Levels of nesting of valid JSON; stops counting beyond `enough`."""
    deepest = depth = 0
    for byte in STRING.sub(b"", body).translate(None, delete=NOT_BRACKETS):
        depth += 1 if byte in OPENERS else -1
        deepest = max(deepest, depth)
        if deepest > enough:
            break
    return deepest


def _max_depth(request: Request) -> int:
    depth = request.app.state.container.settings.max_json_depth
    assert isinstance(depth, int)
    return depth


class StrictJSONRoute(APIRoute):
    """A route that reads its body through `StrictJSONRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictJSONRequest(request.scope, request.receive))

        return strict
