"""The messages and tools of a chat, as Ollama's clients send them: arguments are objects, and calls
need no ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import orjson
from pydantic import Field, model_validator

from llmserve.api.fields import Fields
from llmserve.api.offered_tools import FunctionName
from llmserve.api.tools import FunctionIn
from llmserve.domain import Message, ToolCall


class CalledFunction(Fields):
    """Which function, and its arguments."""

    name: FunctionName
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: int | None = Field(None, description="Its place among the calls of a message.")
    description: str | None = None


class CallIn(Fields):
    """A call in an assistant's message."""

    id: str | None = Field(None, min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction


class ToolIn(Fields):
    """A tool; functions are the only kind."""

    type: Literal["function"] = "function"
    function: FunctionIn


class ChatMessage(Fields):
    """One turn."""

    unsupported: ClassVar = frozenset({"images"})
    may_be_empty: ClassVar = frozenset(
        {"thinking", "tool_call_id", "tool_calls", "tool_name", "name"}
    )

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = Field(None, description="What an assistant thought.")
    tool_calls: list[CallIn] | None = Field(None, description="An assistant's calls.")
    tool_name: str | None = Field(
        None, max_length=128, description="Whose result a tool's message is; also called `name`."
    )
    name: str | None = Field(None, max_length=128)
    tool_call_id: str | None = Field(
        None, max_length=256, description="Which call a tool's message answers."
    )

    @model_validator(mode="after")
    def _has_what_its_role_may(self) -> ChatMessage:
        for field in ("tool_calls", "thinking"):
            if getattr(self, field) and self.role != "assistant":
                raise ValueError(f"`{field}` is for messages of the assistant")
        for field in ("tool_name", "tool_call_id"):
            if getattr(self, field) and self.role != "tool":
                raise ValueError(f"`{field}` is for messages of a tool")
        return self

    @property
    def says_something(self) -> bool:
        """Whether there is anything to read in it."""
        return bool(self.content or self.tool_calls)


def messages_of(sent: Sequence[ChatMessage]) -> Iterator[Message]:
    """As the service takes them. A result without an id answers the first call of its name that has
    no result yet, or the first of all."""
    unanswered: list[ToolCall] = []
    for number, message in enumerate(sent):
        if message.tool_calls:
            calls = enumerate(message.tool_calls)
            unanswered = [_call(call, f"call_{number}_{i}") for i, call in calls]
            yield _said(message, tuple(unanswered))
        elif message.role == "tool":
            yield _result(message, unanswered)
        else:
            yield _said(message)


def _said(message: ChatMessage, calls: tuple[ToolCall, ...] = ()) -> Message:
    return Message(
        role=message.role,
        content=message.content,
        name=message.name,
        reasoning=message.thinking or "",
        tool_calls=calls,
    )


def _result(message: ChatMessage, unanswered: list[ToolCall]) -> Message:
    name = message.tool_name or message.name
    call_id = message.tool_call_id
    fitting = [
        call
        for call in unanswered
        if (call.id == call_id if call_id else name in (None, call.name))
    ]
    answered = next(iter(fitting or unanswered), None)
    if answered is not None:
        unanswered.remove(answered)
        call_id, name = call_id or answered.id, name or answered.name
    return Message("tool", message.content, name=name, tool_call_id=call_id)


def _call(call: CallIn, default_id: str) -> ToolCall:
    arguments = orjson.dumps(call.function.arguments).decode()
    return ToolCall(call.id or default_id, call.function.name, arguments)
