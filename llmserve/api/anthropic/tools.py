"""Tools, and which of them an answer may call, as clients send them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Discriminator, Field, Tag, model_validator

from llmserve.api.anthropic.fields import AnthropicFields, Cacheable, Refused, kind_of
from llmserve.api.offered_tools import FunctionName
from llmserve.domain import Tool, ToolChoice, ToolMode


class CustomTool(Cacheable):
    """A tool that the client runs."""

    unsupported: ClassVar = frozenset({"allowed_callers"})

    type: Literal["custom"] | None = None
    name: FunctionName
    description: str | None = None
    input_schema: dict[str, Any] = Field(description="The JSON schema of its input.")
    strict: bool | None = Field(
        None, description="Calls match the schema, though no call was asked for."
    )
    eager_input_streaming: bool | None = Field(
        None, description="Changes nothing: input is always streamed as it is written."
    )

    def tool(self) -> Tool:
        """As the service takes it, and as chat templates show functions."""
        described = {} if self.description is None else {"description": self.description}
        function = {"name": self.name, **described, "parameters": self.input_schema}
        return Tool(
            name=self.name,
            definition=_json({"type": "function", "function": function}),
            parameters=_json(self.input_schema),
            is_strict=bool(self.strict),
        )


def _tool_kind(sent: Any) -> str:
    kind = kind_of(sent)
    return "[refused]" if isinstance(kind, str) and kind != "custom" else "[custom]"


# Tools that Anthropic runs, or that its models were trained on, are refused by their types.
ToolIn = Annotated[
    Annotated[CustomTool, Tag("[custom]")] | Annotated[Refused, Tag("[refused]")],
    Discriminator(_tool_kind),
]


class ToolChoiceIn(AnthropicFields):
    """Whether the answer calls tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = Field(None, description="The tool that must be called.")
    disable_parallel_tool_use: bool | None = Field(
        None, description="The answer has one call at most."
    )

    @model_validator(mode="after")
    def _name_of_a_tool(self) -> ToolChoiceIn:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("`name` is for the type `tool`, which needs it")
        return self

    def choice(self) -> ToolChoice:
        """As the service takes it."""
        mode = {"auto": ToolMode.AUTO, "none": ToolMode.NONE}.get(self.type, ToolMode.REQUIRED)
        names = () if self.name is None else (self.name,)
        return ToolChoice(mode, names, is_parallel=not self.disable_parallel_tool_use)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
