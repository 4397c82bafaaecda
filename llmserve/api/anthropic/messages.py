"""Messages as clients send them, and as the service takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import orjson
from pydantic import model_validator

from llmserve.api.anthropic.blocks import (
    Content,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    text_of,
)
from llmserve.api.anthropic.fields import AnthropicFields, Refused
from llmserve.domain import Message, Role, ToolCall

ROLES: Final = {
    "text": ("user", "assistant", "system"),
    "thinking": ("assistant",),
    "redacted_thinking": ("assistant",),
    "tool_use": ("assistant",),
    "tool_result": ("user",),
}
"""Whose messages may have a block of a kind."""


class MessageIn(AnthropicFields):
    """A message; several of one role in a row are one turn."""

    role: Literal["user", "assistant", "system"]
    content: Content

    @model_validator(mode="after")
    def _blocks_of_its_role(self) -> MessageIn:
        for block in () if isinstance(self.content, str) else self.content:
            if not isinstance(block, Refused) and self.role not in ROLES[block.type]:
                raise ValueError(f"a message of the {self.role} has no `{block.type}` blocks")
        if self.role == "user" and not self.says_something:
            raise ValueError("a message of the user is empty")
        return self

    @property
    def says_something(self) -> bool:
        """Whether there is anything to read in it."""
        if isinstance(self.content, str):
            return bool(self.content)
        return any(_says_something(block) for block in self.content)


def _says_something(block: object) -> bool:
    match block:
        case TextBlock(text=words) | ThinkingBlock(thinking=words):
            return bool(words)
    return isinstance(block, ToolUseBlock | ToolResultBlock)


def turns(system: str, messages: Iterable[MessageIn]) -> Sequence[Message]:
    """The turns, those of one role put together; each result of a tool is one of its own, and what
    says nothing is left out."""
    said = _Turns()
    said.add_text("system", system)
    for message in messages:
        for part in _parts(message):
            match part:
                case str():
                    said.add_text(message.role, part)
                case ThinkingBlock() if part.thinking:
                    said.of(message.role).reasoning.append(part.thinking)
                case ToolUseBlock():
                    said.of(message.role).calls.append(_call(part))
                case ToolResultBlock():
                    said.add_result(part)
    return said.messages()


class _Turn:
    def __init__(self, role: Role, call_id: str | None = None) -> None:
        self.role = role
        self.call_id = call_id
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[ToolCall] = []

    def message(self) -> Message:
        return Message(
            role=self.role,
            content="\n".join(self.texts),
            reasoning="\n".join(self.reasoning),
            tool_calls=tuple(self.calls),
            tool_call_id=self.call_id,
        )


class _Turns:
    """The turns so far; the last one may go on."""

    def __init__(self) -> None:
        self._turns: list[_Turn] = []

    def of(self, role: Role) -> _Turn:
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(_Turn(role))
        return self._turns[-1]

    def add_text(self, role: Role, text: str) -> None:
        if text:
            self.of(role).texts.append(text)

    def add_result(self, result: ToolResultBlock) -> None:
        turn = _Turn("tool", result.tool_use_id)
        turn.texts.append(_told(result))
        self._turns.append(turn)

    def messages(self) -> list[Message]:
        return [turn.message() for turn in self._turns]


def _parts(message: MessageIn) -> Iterator[object]:
    if isinstance(message.content, str):
        yield message.content
        return
    for block in message.content:
        yield block.text if isinstance(block, TextBlock) else block


def _call(block: ToolUseBlock) -> ToolCall:
    return ToolCall(block.id, block.name, orjson.dumps(block.input).decode())


def _told(result: ToolResultBlock) -> str:
    """Chat templates know no failures; models know the word."""
    text = text_of(result.content)
    return f"Error: {text}" if result.is_error else text
