"""A function that a model may call, as clients of OpenAI's APIs describe it."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import Field

from llmserve.api.fields import Fields
from llmserve.api.offered_tools import FunctionName
from llmserve.domain import Tool


class FunctionIn(Fields):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="The arguments' JSON schema.")
    strict: bool | None = Field(
        None, description="Calls match the schema, though no call was asked for."
    )

    def tool(self) -> Tool:
        """As the service takes it; `strict` is for the server and is not shown to the model."""
        function = self.model_dump(exclude={"strict", "type"}, exclude_none=True)
        return Tool(
            name=self.name,
            definition=_json({"type": "function", "function": function}),
            parameters=_json(self.parameters or {"type": "object", "properties": {}}),
            is_strict=bool(self.strict),
        )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
