"""A conversation's messages and tools in the words of OpenAI's chats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from llmserve.domain import Message, Tool, ToolChoice, ToolMode
from llmserve.engines.remote.server_kind import Takes


def message_body(message: Message, takes: Takes) -> dict[str, Any]:
    """One message. What an assistant thought is left out where the server has no place for it."""
    role = message.role
    if role == "developer" and not takes.developer:
        role = "system"
    body: dict[str, Any] = {"role": role, "content": message.content}
    if message.name is not None:
        body["name"] = message.name
    if message.reasoning and takes.reasoning:
        body["reasoning_content"] = message.reasoning
    if message.tool_calls:
        body["content"] = message.content or None
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def tool_fields(tools: Sequence[Tool], choice: ToolChoice, takes: Takes) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`. A server that knows no choice among some of
    the tools is offered those alone."""
    if not tools or choice.mode is ToolMode.NONE:
        return {}
    is_among_some = len(choice.names) > 1 or (choice.names and choice.mode is ToolMode.AUTO)
    if is_among_some and not takes.some_tools:
        tools = [tool for tool in tools if tool.name in choice.names]
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in tools]}
    if is_among_some and takes.some_tools:
        allowed = [_named(name) for name in choice.names]
        fields["tool_choice"] = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": choice.mode.value, "tools": allowed},
        }
    elif choice.mode is ToolMode.REQUIRED:
        is_one = len(choice.names) == 1
        fields["tool_choice"] = _named(choice.names[0]) if is_one else "required"
    if not choice.is_parallel:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(tool.definition)
    if tool.is_strict:
        body["function"]["strict"] = True
    return body


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}
