"""Functions that a model may call, as clients of several dialects describe them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from llmserve.api.fields import Fields
from llmserve.domain import Tool, ToolChoice, ToolMode

MAX_TOOLS: Final = 1024
FunctionName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\w.:/-]+$")]


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


def check_choice(choice: ToolChoice, names: Collection[str]) -> None:
    """Check that only tools are chosen that there are.

    Raises:
        ValueError: it is not so.
    """
    unknown = next((name for name in choice.names if name not in names), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not among the tools")
    if choice.mode is ToolMode.REQUIRED and not names:
        raise ValueError("a tool must be called and there are no tools")


def check_different(names: Sequence[str]) -> None:
    """Check that each tool has a name of its own.

    Raises:
        ValueError: two have the same one.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two tools have the name {twice!r}")


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
