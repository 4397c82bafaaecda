"""What a request may say, and what is refused by name."""

from __future__ import annotations

import typing
from typing import Any

import openai.types.responses.response_create_params as params
import pytest
from pydantic import ValidationError

from llmserve.api.responses.body import ResponseBody
from llmserve.api.unsupported import UNSUPPORTED_FIELDS
from llmserve.api.validation import invalid_request
from llmserve.domain import ConstraintKind, ToolChoice, ToolMode
from llmserve.domain.request import WHATEVER_FITS

TOOL = {
    "type": "function",
    "name": "f",
    "description": "Finds.",
    "parameters": {"type": "object"},
    "strict": True,
}
INDIFFERENT = {"access_programs", "background_options", "image", "moderation"}
"""They change nothing in an answer, and are told."""
SCHEMA = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}


def body(**fields: Any) -> ResponseBody:
    return ResponseBody.model_validate({"input": "hi"} | fields)


def refusal(**fields: Any) -> tuple[str | None, str]:
    with pytest.raises(ValidationError) as error:
        body(**fields)
    told = invalid_request([one | {"loc": ("body", *one["loc"])} for one in error.value.errors()])
    return told.param, told.message


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "hi"}, fields]}


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0", "'web_search'"),
        ({"tools": [TOOL, {"type": "code_interpreter"}]}, "tools.1", "'code_interpreter'"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools.0", "'custom'"),
        ({"tools": [{"type": "mcp"}]}, "tools.0", "'mcp'"),
        ({"tools": [TOOL, TOOL]}, "tools", "'f'"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type", "'file_search'"),
        ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice", "'g'"),
        (item(type="web_search_call"), "input.1", "'web_search_call'"),
        (item(type="custom_tool_call_output"), "input.1", "'custom_tool_call_output'"),
        (
            item(role="user", content=[{"type": "input_image", "image_url": "x"}]),
            "input.1.content.0",
            "images cannot be read",
        ),
        (
            item(role="user", content=[{"type": "input_file", "file_id": "x"}]),
            "input.1.content.0",
            "files cannot be read",
        ),
        (
            item(type="function_call_output", call_id="c", output=[{"type": "input_audio"}]),
            "input.1.output.0",
            "audio cannot be read",
        ),
        (item(role="tool", content="x"), "input.1.role", "role"),
        ({"input": []}, "input", "at least 1"),
        ({"input": ""}, "input", "at least 1"),
        ({"conversation": "conv_1"}, "conversation", "not supported"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "not supported"),
        ({"max_tokens": 3}, "max_tokens", "not a field"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages", "not a field"),
        ({"n": 2}, "n", "not a field"),
        ({"top_logprobs": 2}, "top_logprobs", "include"),
        ({"include": ["everything"]}, "include.0", "everything"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options", "stream"),
        ({"background": True, "stream": True}, "background", "stream"),
        ({"background": True, "store": False}, "background", "store"),
        ({"temperature": -1}, "temperature", "greater"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    fields: dict[str, Any], param: str, word: str
) -> None:
    told_param, message = refusal(**fields)
    assert told_param == param, message
    assert word in message or word == "everything"


def test_a_call_and_a_format_exclude_each_other() -> None:
    _, message = refusal(tools=[TOOL], tool_choice="required", text={"format": SCHEMA})
    assert "tool_choice" in message


def test_two_formats_are_one_too_many() -> None:
    _, message = refusal(text={"format": SCHEMA}, guided_regex="a+")
    assert "guided_regex and text.format.schema" in message


def test_every_field_of_the_reference_is_served_refused_or_indifferent() -> None:
    fields = set(typing.get_type_hints(params.ResponseCreateParamsBase)) | {"stream"}
    unknown = fields - set(ResponseBody.model_fields) - ResponseBody.unsupported
    assert unknown - ResponseBody.served_elsewhere <= INDIFFERENT
    assert ResponseBody.unsupported > UNSUPPORTED_FIELDS


def test_a_tool_is_shown_in_the_form_that_templates_know() -> None:
    [tool] = body(tools=[TOOL]).conversation().tools
    assert (tool.name, tool.is_strict) == ("f", True)
    assert tool.definition == (
        '{"type":"function","function":'
        '{"name":"f","description":"Finds.","parameters":{"type":"object"}}}'
    )
    [loose] = body(tools=[TOOL | {"strict": None}]).conversation().tools
    assert not loose.is_strict
    assert body(tools=[TOOL], tool_choice="none").conversation().tools == ()


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (None, ToolChoice()),
        ("none", ToolChoice(ToolMode.NONE)),
        ("required", ToolChoice(ToolMode.REQUIRED)),
        ({"type": "function", "name": "f"}, ToolChoice(ToolMode.REQUIRED, ("f",))),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
            ToolChoice(ToolMode.AUTO, ("f",)),
        ),
    ],
)
def test_choices(sent: Any, meant: ToolChoice) -> None:
    [request] = body(tools=[TOOL], tool_choice=sent).requests("r", None)
    assert request.tool_choice == meant


def test_a_single_call_may_be_asked_for() -> None:
    [request] = body(tools=[TOOL], parallel_tool_calls=False).requests("r", None)
    assert not request.tool_choice.is_parallel


def test_formats_become_constraints() -> None:
    for wanted, kind in (
        (SCHEMA, ConstraintKind.JSON_SCHEMA),
        ({"type": "json_object"}, ConstraintKind.JSON_OBJECT),
    ):
        [request] = body(text={"format": wanted}).requests("r", None)
        assert request.constraint is not None
        assert request.constraint.kind == kind
        assert request.constraint.param.startswith("text.format")
    [request] = body(text={"format": {"type": "text"}}).requests("r", None)
    assert request.constraint is None


def test_what_the_template_is_told() -> None:
    conversation = body(
        reasoning={"effort": "none"}, text={"verbosity": "low"}, chat_template_kwargs={"a": 1}
    ).conversation()
    assert conversation.template_options == (
        '{"reasoning_effort":"none","enable_thinking":false,"verbosity":"low","a":1}'
    )


def test_sampling_is_the_same_as_in_chats() -> None:
    [request] = body(
        max_output_tokens=9,
        temperature=0,
        seed=3,
        stop=["x"],
        top_logprobs=2,
        include=["message.output_text.logprobs"],
        truncation="auto",
        timeout=5,
        cache_salt="s",
    ).requests("r", 3.0)
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.seed) == (9, 0, 3)
    assert (sampling.stop, sampling.logprobs) == (("x",), 2)
    assert (request.timeout_seconds, request.cache_salt) == (3.0, "s")
    assert request.max_prompt_tokens == WHATEVER_FITS
    assert request.defaults.temperature == 1.0
    [plain] = body().requests("r", None)
    assert (plain.sampling.logprobs, plain.max_prompt_tokens) == (None, None)


def test_what_openai_sends_when_nothing_was_asked_asks_for_nothing() -> None:
    sent = body(
        conversation=None,
        prompt=None,
        metadata=None,
        tools=[],
        tool_choice="auto",
        reasoning={},
        text={},
        include=[],
        user="me",
        service_tier="auto",
        prompt_cache_key="k",
    )
    assert sent.unknown(9).first is None


def test_what_nobody_knows_is_told() -> None:
    sent = body(**item(role="user", content="x", own=1), mine=2)
    assert {(*path, name) for path, name in sent.unknown(9)} == {("input", "own"), ("mine",)}
