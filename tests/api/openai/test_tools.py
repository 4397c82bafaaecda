"""Tools as clients send them, and what they may choose."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.validation import invalid_request
from llmserve.domain import Conversation, Tool, ToolChoice, ToolMode

HELLO = {"messages": [{"role": "user", "content": "hi"}]}


def tool(name: str, **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name} | function}


F, G = tool("f"), tool("g")
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [G]}}


@pytest.mark.parametrize(
    ("sent", "param", "told"),
    [
        ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"tools": [F], "tool_choice": G}, "tool_choice", "'g' is not among the tools"),
        ({"tools": [F], "tool_choice": ALLOWED}, "tool_choice", "'g' is not among the tools"),
        ({"tools": [F], "tool_choice": "sometimes"}, "tool_choice", "'none', 'auto' or"),
        ({"tools": [F], "tool_choice": {"type": "custom"}}, "tool_choice.type", "'function'"),
        ({"tools": [F, F]}, "tools", "two tools have the name 'f'"),
        ({"tools": [tool("a b")]}, "tools.0.function.name", "pattern"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools.0.type", "'function'"),
        ({"tools": [tool("f", parameters=[])]}, "tools.0.function.parameters", "dictionary"),
        ({"functions": [{"name": "f"}], "tools": [F]}, None, "the older form of tools"),
        (
            {"tools": [F], "tool_choice": "auto", "function_call": "auto"},
            None,
            "the older form of tool_choice",
        ),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call", "'g'"),
        (
            {"tools": [F], "tool_choice": "required", "guided_regex": "a"},
            None,
            "a tool must be called, and a format",
        ),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(
    sent: dict[str, Any], param: str | None, told: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        ChatBody.model_validate(HELLO | sent)
    error = invalid_request(refused.value.errors())
    assert error.param == param
    assert told in error.message


@pytest.mark.parametrize(
    ("sent", "choice"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "auto"}, ToolChoice()),
        ({"tool_choice": "none"}, ToolChoice(ToolMode.NONE)),
        ({"tool_choice": "required"}, ToolChoice(ToolMode.REQUIRED)),
        ({"tool_choice": G}, ToolChoice(ToolMode.REQUIRED, ("g",))),
        ({"tool_choice": ALLOWED}, ToolChoice(ToolMode.REQUIRED, ("g",))),
        ({"parallel_tool_calls": False}, ToolChoice(is_parallel=False)),
    ],
)
def test_every_choice_reaches_the_service(sent: dict[str, Any], choice: ToolChoice) -> None:
    [request] = ChatBody.model_validate(HELLO | {"tools": [F, G]} | sent).requests("r", None)
    assert request.tool_choice == choice
    assert isinstance(request.prompt, Conversation)
    shown = [] if choice.mode is ToolMode.NONE else ["f", "g"]
    assert [offered.name for offered in request.prompt.tools] == shown


def test_the_model_is_shown_what_the_client_sent_but_for_what_is_the_servers() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "number"}}}
    sent = tool("f", description="does", parameters=schema, strict=True, own=[1])
    [request] = ChatBody.model_validate(HELLO | {"tools": [sent]}).requests("r", None)
    assert isinstance(request.prompt, Conversation)
    [offered] = request.prompt.tools
    shown = tool("f", description="does", parameters=schema, own=[1])
    assert json.loads(offered.definition) == shown
    assert (json.loads(offered.parameters), offered.is_strict) == (schema, True)


def test_functions_of_the_first_generation_are_tools_one_at_a_time() -> None:
    body = HELLO | {"functions": [{"name": "f"}], "function_call": {"name": "f"}}
    [request] = ChatBody.model_validate(body).requests("r", None)
    assert request.tool_choice == ToolChoice(ToolMode.REQUIRED, ("f",), is_parallel=False)
    assert isinstance(request.prompt, Conversation)
    assert [type(offered) for offered in request.prompt.tools] == [Tool]


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        ({}, {}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": 1, "a": [1]}},
            {"reasoning_effort": "none", "enable_thinking": 1, "a": [1]},
        ),
    ],
)  # fmt: skip
def test_the_template_gets_its_variables(sent: dict[str, Any], options: dict[str, Any]) -> None:
    [conversation] = ChatBody.model_validate(HELLO | sent).prompts()
    assert json.loads(conversation.template_options) == options


@pytest.mark.parametrize(
    ("sent", "opens", "continues"),
    [
        ({}, True, False),
        ({"add_generation_prompt": False}, False, False),
        ({"continue_final_message": True}, False, True),
        ({"continue_final_message": True, "add_generation_prompt": False}, False, True),
    ],
)
def test_how_the_prompt_ends(sent: dict[str, Any], opens: bool, continues: bool) -> None:
    [conversation] = ChatBody.model_validate(HELLO | sent).prompts()
    assert (conversation.has_generation_prompt, conversation.continues_last) == (opens, continues)
    with pytest.raises(ValidationError, match="send one of them"):
        ChatBody.model_validate(
            HELLO | {"continue_final_message": True, "add_generation_prompt": True}
        )
