"""A conversation in which a tool is called, with a caller's text in every place."""

from __future__ import annotations

import json
from typing import Any

from llmserve.domain import Conversation, Message, Tool, ToolCall

CALL_ID = "a1b2c3d4e"
"""Nine letters and digits, as Mistral's templates want."""


def definition(text: str = "Finds it.", name: str = "find") -> dict[str, Any]:
    """A tool, OpenAI's form, with the text in each value and a key."""
    place = {"type": "string", "description": text, "enum": ["a", text], "default": text}
    parameters = {"type": "object", "properties": {"place": place, text: place}, "required": [text]}
    function = {"name": name, "description": text, "parameters": parameters}
    return {"type": "function", "function": function}


def tool(text: str = "Finds it.", name: str = "find") -> Tool:
    return Tool(name, json.dumps(definition(text, name), ensure_ascii=False))


def call(arguments: str = '{"place": "here"}', call_id: str = CALL_ID) -> ToolCall:
    return ToolCall(call_id, "find", arguments)


def talk(text: str, *, asked: str = "Where?", ends: bool = False, **fields: Any) -> Conversation:
    """A user asks, an assistant calls, a tool answers; with `ends`, the assistant does, too."""
    arguments = json.dumps({"place": text, "deep": {"list": [text, 1, None]}}, ensure_ascii=False)
    messages = [
        Message("user", asked),
        Message("assistant", "", tool_calls=(call(arguments),)),
        Message("tool", text, tool_call_id=CALL_ID),
        *([Message("assistant", text), Message("user", asked)] if ends else []),
    ]
    return Conversation(tuple(messages), (tool(text),), **fields)
