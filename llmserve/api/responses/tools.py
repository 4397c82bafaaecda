"""Tools and the choice among them, in the flat form of the Responses API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from llmserve.api.fields import Fields
from llmserve.api.offered_tools import FunctionName
from llmserve.api.tools import FunctionIn
from llmserve.domain import ToolChoice, ToolMode
from llmserve.domain.offered_tools import MAX_TOOLS


def _function_alone(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "function":
        raise ValueError(
            f"{kind[:64]!r} tools are not supported by this server; it has `function` alone"
        )
    return kind


FunctionType = Annotated[Literal["function"], BeforeValidator(_function_alone)]


class FunctionTool(FunctionIn):
    """A function that the model may call; `strict` is false where it is absent."""

    type: FunctionType

    def told(self) -> dict[str, Any]:
        """As responses repeat it."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": bool(self.strict),
        }


def _kind_of(sent: Any) -> Any:
    return sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", None)


def _checked_kind(tool: Any) -> Any:
    _function_alone(_kind_of(tool))
    return tool


ToolIn = Annotated[FunctionTool, BeforeValidator(_checked_kind)]
"""An error in a tool of another kind would otherwise be that it has no name."""


class NamedFunction(Fields):
    """The one function that must be called, or one of those that may be."""

    type: FunctionType
    name: FunctionName


class AllowedTools(Fields):
    """A choice among fewer tools than the model is shown."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedFunction] = Field(min_length=1, max_length=MAX_TOOLS)


def _choice_kind(choice: Any) -> str:
    if isinstance(choice, str):
        return "str"
    return "[allowed]" if _kind_of(choice) == "allowed_tools" else "[named]"


ToolChoiceIn = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("str")]
    | Annotated[NamedFunction, Tag("[named]")]
    | Annotated[AllowedTools, Tag("[allowed]")],
    Discriminator(_choice_kind),
]


def chosen(choice: str | NamedFunction | AllowedTools | None, *, is_parallel: bool) -> ToolChoice:
    """What a client's `tool_choice` means; absence is `auto`."""
    match choice:
        case NamedFunction(name=name):
            return ToolChoice(ToolMode.REQUIRED, (name,), is_parallel=is_parallel)
        case AllowedTools(mode=mode, tools=tools):
            names = tuple(dict.fromkeys(tool.name for tool in tools))
            return ToolChoice(ToolMode(mode), names, is_parallel=is_parallel)
        case str():
            return ToolChoice(ToolMode(choice), is_parallel=is_parallel)
    return ToolChoice(is_parallel=is_parallel)
