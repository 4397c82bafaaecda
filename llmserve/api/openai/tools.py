"""Tools and calls of tools, as clients send them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from llmserve.api.fields import Fields
from llmserve.api.offered_tools import FunctionName
from llmserve.api.tools import FunctionIn
from llmserve.domain import ToolCall, ToolChoice, ToolMode
from llmserve.domain.offered_tools import MAX_TOOLS


class FunctionCall(Fields):
    """Which function, and its arguments as the model wrote them: JSON text."""

    name: FunctionName
    arguments: str = ""

    def call(self, call_id: str) -> ToolCall:
        """As the service takes it."""
        return ToolCall(call_id, self.name, self.arguments)


class ToolCallIn(Fields):
    """A call in an assistant's message."""

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: FunctionCall

    def call(self) -> ToolCall:
        """As the service takes it."""
        return self.function.call(self.id)


class ToolIn(Fields):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionIn


class Named(Fields):
    """A function by its name."""

    name: FunctionName


class NamedTool(Fields):
    """The one tool that must be called, or one of those that may be."""

    type: Literal["function"] = "function"
    function: Named


class AllowedTools(Fields):
    """Those of the tools that may be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedToolsChoice(Fields):
    """A choice among fewer tools than the model is shown."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _choice_kind(choice: Any) -> str:
    if isinstance(choice, str):
        return "str"
    kind = choice.get("type") if isinstance(choice, dict) else getattr(choice, "type", None)
    return "[allowed]" if kind == "allowed_tools" else "[named]"


ToolChoiceIn = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("str")]
    | Annotated[NamedTool, Tag("[named]")]
    | Annotated[AllowedToolsChoice, Tag("[allowed]")],
    Discriminator(_choice_kind),
]


def _older_kind(choice: Any) -> str:
    return "str" if isinstance(choice, str) else "[named]"


FunctionChoiceIn = Annotated[
    Annotated[Literal["none", "auto"], Tag("str")] | Annotated[Named, Tag("[named]")],
    Discriminator(_older_kind),
]


def chosen(choice: Any, *, is_parallel: bool) -> ToolChoice:
    """What a client's `tool_choice` or `function_call` means; absence is `auto`."""
    match choice:
        case str():
            return ToolChoice(ToolMode(choice), is_parallel=is_parallel)
        case Named(name=name) | NamedTool(function=Named(name=name)):
            return ToolChoice(ToolMode.REQUIRED, (name,), is_parallel=is_parallel)
        case AllowedToolsChoice(allowed_tools=allowed):
            names = tuple(dict.fromkeys(tool.function.name for tool in allowed.tools))
            return ToolChoice(ToolMode(allowed.mode), names, is_parallel=is_parallel)
    return ToolChoice(is_parallel=is_parallel)
