"""Functions that a model may call, and its calls. Arguments are JSON text, as models write them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers.

    Attributes:
        definition: all of it as the client sent it, JSON text: what the chat template shows.
        parameters: the JSON schema of its arguments, JSON text.
        is_strict: whether its arguments must match the schema though nobody asked for a call.
    """

    name: str
    definition: str
    parameters: str = '{"type": "object"}'
    is_strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole call. `arguments` is JSON text, or what the model wrote in its place."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the answer's call number `index`: the first piece has its id and its name, and
    the `arguments` of all pieces together are the call's."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class ToolMode(StrEnum):
    """Whether an answer calls tools."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """What an answer may call.

    Attributes:
        names: the tools that it may call; empty means all.
        is_parallel: whether it may call several.
    """

    mode: ToolMode = ToolMode.AUTO
    names: tuple[str, ...] = ()
    is_parallel: bool = True
