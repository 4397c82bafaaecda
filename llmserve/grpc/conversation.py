"""The messages and the tools of a conversation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from llmserve.checked_json import checked_json
from llmserve.domain import Message, Role, Tool, ToolCall
from llmserve.domain.offered_tools import MAX_NAME, MAX_TOOLS, NAME_PATTERN, check_different
from llmserve.errors import InvalidRequest
from llmserve.proto.v1 import generation_pb2 as pb

MAX_ID: Final = 256
NAME: Final = re.compile(NAME_PATTERN)
NO_PARAMETERS: Final = '{"type":"object","properties":{}}'

ROLES: Final[Mapping[int, Role]] = {
    pb.Message.ROLE_SYSTEM: "system",
    pb.Message.ROLE_DEVELOPER: "developer",
    pb.Message.ROLE_USER: "user",
    pb.Message.ROLE_ASSISTANT: "assistant",
    pb.Message.ROLE_TOOL: "tool",
}


def message_of(sent: pb.Message, param: str) -> Message:
    """One turn.

    Raises:
        InvalidRequest: it lacks what its role needs, or has what is another role's.
    """
    role = ROLES.get(sent.role)
    if role is None:
        raise InvalidRequest(
            f"a message has no role that this server knows, but {sent.role}", param=f"{param}.role"
        )
    if role != "assistant" and (sent.tool_calls or sent.reasoning):
        field = "tool_calls" if sent.tool_calls else "reasoning"
        raise InvalidRequest(f"{field} is for messages of the assistant", param=f"{param}.{field}")
    if role == "tool" and not sent.tool_call_id:
        raise InvalidRequest(
            "a message of a tool needs tool_call_id, the id of the call",
            param=f"{param}.tool_call_id",
        )
    _check_length(sent.name, MAX_NAME, f"{param}.name")
    _check_length(sent.tool_call_id, MAX_ID, f"{param}.tool_call_id")
    return Message(
        role=role,
        content=sent.content,
        name=sent.name if sent.HasField("name") else None,
        reasoning=sent.reasoning,
        tool_calls=tuple(
            _call(call, f"{param}.tool_calls[{n}]") for n, call in enumerate(sent.tool_calls)
        ),
        tool_call_id=sent.tool_call_id if sent.HasField("tool_call_id") else None,
    )


def tools_of(sent: Iterable[pb.Tool], max_json_depth: int) -> tuple[Tool, ...]:
    """The tools.

    Raises:
        InvalidRequest: one cannot be used, or two have the same name.
    """
    tools = tuple(_tool(tool, f"tools[{n}]", max_json_depth) for n, tool in enumerate(sent))
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"at most {MAX_TOOLS:,} tools are taken", param="tools")
    try:
        check_different([tool.name for tool in tools])
    except ValueError as error:
        raise InvalidRequest(str(error), param="tools") from None
    return tools


def check_object(text: str, param: str, max_json_depth: int) -> str:
    """The text, which is a JSON object's.

    Raises:
        InvalidRequest: it is none, or nested too deeply.
    """
    _object(text, param, max_json_depth)
    return text


def _tool(sent: pb.Tool, param: str, max_json_depth: int) -> Tool:
    _check_name(sent.name, f"{param}.name")
    function: dict[str, Any] = {"name": sent.name}
    if sent.description:
        function["description"] = sent.description
    if sent.HasField("parameters"):
        parameters = _object(sent.parameters, f"{param}.parameters", max_json_depth)
        function["parameters"] = parameters
    if sent.HasField("definition"):
        definition = check_object(sent.definition, f"{param}.definition", max_json_depth)
    else:
        definition = orjson.dumps({"type": "function", "function": function}).decode()
    return Tool(
        name=sent.name,
        definition=definition,
        parameters=sent.parameters if function.get("parameters") else NO_PARAMETERS,
        is_strict=sent.strict,
    )


def _call(sent: pb.ToolCall, param: str) -> ToolCall:
    if not sent.id:
        raise InvalidRequest("a call needs an id", param=f"{param}.id")
    _check_length(sent.id, MAX_ID, f"{param}.id")
    _check_name(sent.name, f"{param}.name")
    return ToolCall(sent.id, sent.name, sent.arguments)


def _check_name(name: str, param: str) -> None:
    if len(name) > MAX_NAME or NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"a function's name has 1 to {MAX_NAME} letters, digits or _ . : / -", param=param
        )


def _check_length(text: str, most: int, param: str) -> None:
    if len(text) > most:
        raise InvalidRequest(f"it has {len(text):,} characters and may have {most}", param=param)


def _object(text: str, param: str, max_json_depth: int) -> dict[str, Any]:
    try:
        value = checked_json(text, max_json_depth)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"it is not valid JSON: {error}", param=param) from None
    if not isinstance(value, dict):
        raise InvalidRequest("it must be a JSON object", param=param)
    return value
