"""JSON in and out through orjson."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request, Response

from llmserve.api.container import container_of
from llmserve.checked_json import checked_json


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
        return self.parsed(await self.body())

    def parsed(self, body: bytes) -> Any:
        """The value of this body; may be called in any thread."""
        return checked_json(body, container_of(self.scope).settings.max_json_depth)
