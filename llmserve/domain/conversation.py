"""A conversation with its tools, and the forms that a prompt may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmserve.domain.tools import Tool, ToolCall

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        reasoning: what an assistant thought before it answered.
        tool_calls: an assistant's.
        tool_call_id: which of them a tool's message answers.
    """

    role: Role
    content: str
    name: str | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat template renders.

    Attributes:
        messages: at least one.
        tools: those that the template shows to the model.
        template_options: further variables of the template, as the text of a JSON object.
        has_generation_prompt: whether the template opens the turn of the answer.
        continues_last: whether the answer goes on in the last message, whose turn stays open.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    template_options: str = "{}"
    has_generation_prompt: bool = True
    continues_last: bool = False


def of_system(text: str) -> Conversation:
    """A conversation that begins with this system message and goes no further."""
    return Conversation((Message("system", text),))


Prompt = str | tuple[int, ...] | Conversation
"""Raw text, token ids, or a conversation for the chat template."""


def prompt_size(prompt: Prompt) -> int:
    """Characters of a text or a conversation; token ids, which cost less, count one each."""
    if isinstance(prompt, Conversation):
        written = sum(map(_written, prompt.messages)) + len(prompt.template_options)
        return written + sum(len(tool.definition) for tool in prompt.tools)
    return len(prompt)


def _written(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning) + calls
