"""What the two routes take, and the requests that the service gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.anthropic.body import MANY_BLOCKS, CountBody, MessagesBody
from llmserve.api.validation import invalid_request
from llmserve.domain import (
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    Message,
    SamplingFields,
    Tool,
    ToolChoice,
    ToolMode,
)

HELLO: dict[str, Any] = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "f", "description": "does", "input_schema": SCHEMA}
FORM = {"type": "json_schema", "schema": SCHEMA}


def request(**fields: Any) -> GenerationRequest:
    [made] = MessagesBody.model_validate(HELLO | fields).requests("r1", 5.0)
    return made


def conversation(**fields: Any) -> Conversation:
    prompt = request(**fields).prompt
    assert isinstance(prompt, Conversation)
    return prompt


def options(**fields: Any) -> dict[str, Any]:
    return dict(json.loads(conversation(**fields).template_options))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "messages: every message is empty"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"top_k": -1}, "top_k: Input should be greater"),
        ({"stop_sequences": [""]}, "stop_sequences.0: String should have at least 1"),
        ({"stop_sequences": "END"}, "stop_sequences: Input should be a valid list"),
        ({"stop": "END"}, "'stop' is not a field of this request"),
        ({"n": 2}, "'n' is not a field of this request"),
        ({"seed": 2}, "'seed' is not a field of this request"),
        ({"response_format": {"type": "json_object"}}, "'response_format' is not a field"),
        ({"container": "c"}, "'container' is not supported"),
        ({"compaction": {"type": "x"}}, "'compaction' is not supported"),
        ({"thread": {"type": "create"}}, "'thread' is not supported"),
        ({"mcp_servers": [{"url": "x"}]}, "'mcp_servers' is not supported"),
        ({"system": [{"type": "image"}]}, "system.0: images cannot be read"),
        ({"service_tier": "best"}, "service_tier: Input should be"),
        ({"thinking": {"type": "enabled"}}, "`budget_tokens` is for the type `enabled`"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 5}}, "`budget_tokens` is for"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "max_tokens must be greater than"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type: Input should be"),
        ({"tools": [TOOL, TOOL]}, "two tools have the name 'f'"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema: Field required"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "'tools.0.web_search_20250305"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "'tools.0.bash_20250124' is not"),
        ({"tools": [TOOL | {"allowed_callers": ["code"]}]}, "'tools.0.allowed_callers' is not"),
        ({"tool_choice": {"type": "any"}}, "a tool must be called and there are no tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "'g' is not among the"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "`name` is for the type `tool`"),
        ({"tools": [TOOL], "tool_choice": {"type": "any", "name": "f"}}, "`name` is for the type"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}, "output_config": {"format": FORM}},
         "send one of tool_choice and the format"),
        ({"output_config": {"format": FORM}, "output_format": FORM}, "send one of them"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "format.schema: Field required"),
        ({"output_config": {"effort": "most"}}, "output_config.effort: Input should be"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MessagesBody.model_validate(HELLO | fields)
    assert message in invalid_request(refused.value.errors()).message


def test_absence_is_absence() -> None:
    plain = request()
    nothing = dict.fromkeys(
        ("system", "tools", "tool_choice", "thinking", "metadata", "output_config", "stream",
         "temperature", "stop_sequences", "container", "cache_control")
    )  # fmt: skip
    assert request(**nothing) == plain
    assert request(system="", tools=[], metadata={}, container={}, speed="standard") == plain
    assert plain == GenerationRequest(
        id="r1",
        prompt=Conversation((Message("user", "hi"),)),
        sampling=SamplingFields(max_tokens=9),
        defaults=SamplingFields(temperature=1.0),
        timeout_seconds=5.0,
        requires_reasoning=False,
    )


def test_sampling_has_its_fields() -> None:
    fields: dict[str, Any] = {"temperature": 0, "top_p": 0.5, "top_k": 3, "stop_sequences": ["a"]}
    made = request(**fields, thinking={"type": "enabled", "budget_tokens": 8})
    assert made.sampling == SamplingFields(
        max_tokens=9, temperature=0, top_p=0.5, top_k=3, stop=("a",), thinking_budget=8
    )


def test_what_changes_nothing_is_accepted() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    block = {"type": "text", "text": "hi", **mark}
    body = MessagesBody.model_validate(
        {
            "max_tokens": 9,
            "messages": [{"role": "user", "content": [block]}],
            "system": [block],
            "tools": [TOOL | mark | {"type": "custom", "eager_input_streaming": True}],
            "metadata": {"user_id": "u"},
            "service_tier": "auto",
            **mark,
        }
    )
    assert [*body.unknown(9)] == []


def test_what_nobody_knows_is_told() -> None:
    body = MessagesBody.model_validate(HELLO | {"context_management": {"edits": [1]}, "own": 1})
    assert [*body.unknown(9)] == [((), "context_management"), ((), "own")]


def test_the_system_comes_first_in_lines() -> None:
    blocks = [{"type": "text", "text": text} for text in ("be", "brief")]
    assert conversation(system=blocks).messages == (
        Message("system", "be\nbrief"),
        Message("user", "hi"),
    )


def test_an_answer_goes_on_in_the_last_message_of_the_assistant() -> None:
    begun = [*HELLO["messages"], {"role": "assistant", "content": "ho"}]
    for messages, is_continued in ((begun, True), (HELLO["messages"], False)):
        made = conversation(messages=messages)
        assert (made.continues_last, made.has_generation_prompt) == (is_continued, not is_continued)
    empty = [*HELLO["messages"], {"role": "assistant", "content": []}]
    assert conversation(messages=empty) == conversation()


def test_tools_are_shown_as_functions() -> None:
    function = {"name": "f", "description": "does", "parameters": SCHEMA}
    [tool] = conversation(tools=[TOOL | {"strict": True}]).tools
    assert json.loads(tool.definition) == {"type": "function", "function": function}
    assert tool == Tool(
        "f", tool.definition, json.dumps(SCHEMA, separators=(",", ":")), is_strict=True
    )
    assert conversation(tools=[TOOL], tool_choice={"type": "none"}).tools == ()


@pytest.mark.parametrize(
    ("sent", "choice"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(is_parallel=False)),
        ({"type": "any"}, ToolChoice(ToolMode.REQUIRED)),
        ({"type": "tool", "name": "f"}, ToolChoice(ToolMode.REQUIRED, ("f",))),
        ({"type": "none"}, ToolChoice(ToolMode.NONE)),
    ],
)
def test_a_choice_is_the_house_s(sent: dict[str, Any], choice: ToolChoice) -> None:
    assert request(tools=[TOOL], tool_choice=sent).tool_choice == choice


def test_thinking_and_effort_are_variables_of_the_chat_template() -> None:
    assert options() == {}
    assert options(thinking={"type": "disabled"}) == {"enable_thinking": False}
    assert options(thinking={"type": "adaptive"}) == {"enable_thinking": True}
    enabled = {"type": "enabled", "budget_tokens": 5}
    assert options(thinking=enabled) == {"enable_thinking": True}
    assert options(output_config={"effort": "low"}) == {"reasoning_effort": "low"}
    for thinking, is_shown in ((enabled, True), (enabled | {"display": "omitted"}, False)):
        assert (
            MessagesBody.model_validate(HELLO | {"thinking": thinking}).shows_thinking is is_shown
        )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"output_config": {"format": FORM}}, "output_config.format.schema"),
        ({"output_format": FORM}, "output_format.schema"),
    ],
)
def test_a_form_is_a_constraint(fields: dict[str, Any], param: str) -> None:
    source = json.dumps(SCHEMA, separators=(",", ":"))
    assert request(**fields).constraint == Constraint(ConstraintKind.JSON_SCHEMA, source, param)


@pytest.mark.parametrize("is_long", [False, True])
def test_many_blocks_make_a_body_long(is_long: bool) -> None:
    content = [{"type": "text", "text": "hi"}] * (MANY_BLOCKS + is_long - 1)
    messages = [*HELLO["messages"], {"role": "user", "content": content}]
    assert MessagesBody.model_validate(HELLO | {"messages": messages}).is_long is is_long


def test_how_an_answer_would_be_sampled_matters_to_no_count() -> None:
    body = CountBody.model_validate(HELLO | {"temperature": 1, "stop_sequences": ["a"]})
    assert {name for _, name in body.unknown(9)} == {"max_tokens", "temperature", "stop_sequences"}


def test_to_count_tokens_no_limit_is_needed() -> None:
    fields = {"messages": HELLO["messages"], "thinking": {"type": "enabled", "budget_tokens": 99}}
    [made] = CountBody.model_validate(fields).requests("r1", None)
    assert made.sampling == SamplingFields()
    assert made.prompt == conversation(thinking={"type": "adaptive"})
