"""What models get wrong, and what delimiters mean where they do not belong."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from loguru import logger
from reading import TOOLS, Read, answered, read, tool

from llmserve.domain import FinishReason
from llmserve.text.output.families import (
    DEEPSEEK,
    GEMMA_4,
    GLM,
    GRANITE,
    HERMES,
    KIMI,
    LLAMA_JSON,
    LLAMA_PYTHON,
    MISTRAL,
    MISTRAL_JSON,
    QWEN_XML,
)
from llmserve.text.output.syntax import FamilySyntax

PING = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    told: list[str] = []
    sink = logger.add(lambda message: told.append(message.record["message"]), level="WARNING")
    yield told
    logger.remove(sink)


@pytest.mark.parametrize(
    ("syntax", "written"),
    [
        (HERMES, "<tool_call>\nnothing of the kind\n</tool_call>"),
        (HERMES, '<tool_call>{"nom": "ping"}</tool_call>'),
        (HERMES, '<tool_call>{"name": 3, "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "' + "x" * 2000 + '", "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "ping"'),
        (HERMES, '<tool_call>{"arguments": {"a": 1'),
        (HERMES, "<tool_call><tool_call>"),
        (QWEN_XML, "<tool_call>\n<function=weather>\nOslo\n</function>\n</tool_call>"),
        (QWEN_XML, "Write <function=f> to begin"),
        (QWEN_XML, "Write <function="),
        (GLM, "<tool_call>two words</tool_call>"),
        (DEEPSEEK, "<｜tool▁calls▁begin｜>weather"),
        (KIMI, "<|tool_calls_section_begin|><|tool_call_begin|>weather<|tool_call_end|>"),
        (MISTRAL, "[TOOL_CALLS]weather"),
        (MISTRAL_JSON, "[TOOL_CALLS] none"),
        (GEMMA_4, "<|tool_call>weather{}<tool_call|>"),
        (GRANITE, "<|tool_call|>[]"),
    ],
)
def test_a_call_that_is_malformed_before_its_arguments_is_text(
    syntax: FamilySyntax, written: str, warnings: list[str]
) -> None:
    assert read(syntax, f"So: {written}") == Read(f"So: {written}")
    assert {"the model wrote a tool call that is malformed: it is passed on as text"} == set(
        warnings
    )


@pytest.mark.parametrize(
    ("syntax", "written", "arguments"),
    [
        (HERMES, '<tool_call>{"name": "ping", "arguments": {"a": [1, 2}', '{"a": [1, 2}'),
        (HERMES, '<tool_call>{"name": "ping", "arguments": {"a": "b', '{"a": "b'),
        (QWEN_XML, "<tool_call><function=ping><parameter=a>\nb", '{"a": "b'),
        (QWEN_XML, "<tool_call><function=ping><parameter=days>\n1", '{"days": "1'),
        (LLAMA_PYTHON, "[ping(a=b)]", "a=b"),
        (LLAMA_PYTHON, "[ping(1)]", "1"),
        (LLAMA_PYTHON, "[ping(a='b", "a='b"),
        (GEMMA_4, "<|tool_call>call:ping{a:<tool_call|>", "{a:"),
        (MISTRAL, '[TOOL_CALLS]ping[ARGS]{"a": 1', '{"a": 1'),
    ],
)
def test_arguments_that_are_malformed_stay_as_they_were_written(
    syntax: FamilySyntax, written: str, arguments: str, warnings: list[str]
) -> None:
    assert read(syntax, written) == Read("", "", (("ping", arguments),))
    assert len(warnings) == 1
    assert "malformed" in warnings[0]


@pytest.mark.parametrize(
    ("syntax", "written", "arguments"),
    [
        (HERMES, '<tool_call>{"arguments": {"city": "a"}, "name": "weather"}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "weather", "arguments": {"city": "a"}}}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "weather", "arguments": {"city": "a"}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"a\\"}"}', None),
        (HERMES, '<tool_call>{"id": [1], "name": "weather", "arguments": {"city": "a"}}', None),
        (HERMES, '<tool_call>{"name": "weather", "arguments": null}</tool_call>', "{}"),
        (HERMES, '<tool_call>{"name": "weather"}</tool_call>', "{}"),
        (QWEN_XML, "<function=weather>\n<parameter=city>\na\n</parameter>\n</function>", None),
        (LLAMA_JSON, '<|python_tag|>{"name": "weather", "parameters": {"city": "a"}}', None),
        (LLAMA_JSON, '{"type": "function", "name": "weather", "parameters": {"city": "a"}}', None),
        (LLAMA_PYTHON, "[weather(city='a')]", None),
        (LLAMA_PYTHON, "<|python_start|>[weather(city='a')]<|python_end|>", None),
        (MISTRAL, '[TOOL_CALLS]weather[CALL_ID]123456789[ARGS]{"city": "a"}', None),
        (MISTRAL_JSON, '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "a"}}]', None),
        (GRANITE, '<|tool_call|>{"name": "weather", "arguments": {"city": "a"}}', None),
    ],
)
def test_what_models_write_in_other_ways_is_read_all_the_same(
    syntax: FamilySyntax, written: str, arguments: str | None
) -> None:
    found = read(syntax, written, range(len(written)))
    assert found.text == ""
    assert [(name, json.loads(text)) for name, text in found.calls] == [
        ("weather", json.loads(arguments or '{"city": "a"}'))
    ]


def test_arguments_come_as_they_are_written() -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {"city":  "</tool_call>"}}\n</tool_call>'
    assert read(HERMES, call).calls == (("weather", '{"city":  "</tool_call>"}'),)


def test_white_space_around_delimiters_is_no_text() -> None:
    written = f"<think>\n Hm. \n</think>\n\nYes. \n\n{PING}\n{PING}\n\n And so on.\n"
    assert read(HERMES, written) == Read(
        "Yes.\n\n And so on.\n", "Hm.", (("ping", "{}"), ("ping", "{}"))
    )


def test_reasoning_comes_first_or_not_at_all() -> None:
    assert read(HERMES, "See <think>this</think>.") == Read("See <think>this</think>.")


def test_a_call_in_reasoning_is_reasoning() -> None:
    assert read(HERMES, f"<think>{PING}</think>Yes.") == Read("Yes.", PING)


def test_a_token_that_no_text_contains_ends_reasoning() -> None:
    call = KIMI.write(list(answered(HERMES, PING).calls))
    assert read(KIMI, f"<think>Hm.{call}") == Read("", "Hm.", (("ping", "{}"),))


def test_reasoning_that_the_prompt_has_closed_is_over() -> None:
    opening = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert read(HERMES, "Yes.", opening=opening) == Read("Yes.")


def test_delimiters_around_the_answer_are_left_out() -> None:
    written = "<think>Hm.</think><response>Yes.</response>"
    assert read(GRANITE, written, range(len(written))) == Read("Yes.", "Hm.")
    assert read(GRANITE, written, tools=None) == Read("Yes.", "Hm.")


def test_an_end_that_was_missing_is_left_out_when_it_comes() -> None:
    call = '<tool_call>{"name": "ping", "arguments": {}} and </tool_call>so.'
    assert read(HERMES, call) == Read("andso.", "", (("ping", "{}"),))


def test_text_may_follow_calls_that_have_no_delimiter() -> None:
    expected = Read("So.", "", (("ping", "{}"),))
    assert read(LLAMA_PYTHON, "[ping()] So.") == expected
    assert read(LLAMA_JSON, '{"name": "ping", "parameters": {}} So.') == expected


def test_an_answer_in_json_is_no_call_though_calls_have_no_delimiter() -> None:
    written = '{"title": "ping", "name": "ping", "parameters": {}}'
    assert read(LLAMA_JSON, written) == Read(written)
    written = '{"name": "Ada", "parameters": {}}'
    assert read(LLAMA_JSON, written) == Read(written)
    assert read(LLAMA_PYTHON, "[1, 2]") == Read("[1, 2]")


def test_types_of_arguments_follow_the_schema() -> None:
    names = {"s": "string", "i": "integer", "n": "number", "b": "boolean", "o": "object"}
    tools = (
        tool("f", {"type": "object", "properties": {k: {"type": v} for k, v in names.items()}}),
    )
    values = {"s": "1", "i": "1", "n": "1.5", "b": "True", "o": "{'a': 1}", "other": "1"}
    parameters = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in values.items())
    found = read(QWEN_XML, f"<tool_call>\n<function=f>\n{parameters}</function>", tools=tools)
    assert json.loads(found.calls[0][1]) == {
        "s": "1", "i": 1, "n": 1.5, "b": True, "o": {"a": 1}, "other": "1",
    }  # fmt: skip


def test_an_unknown_tool_is_told(warnings: list[str]) -> None:
    read(HERMES, PING.replace("ping", "pong"))
    assert warnings == ["the model called 'pong', which is none of the request's tools"]


def test_ids_are_unique_and_in_the_form_of_the_family() -> None:
    ids = [call.id for call in answered(HERMES, PING + PING).calls]
    assert len(set(ids)) == 2
    assert all(call_id.startswith("call_") and len(call_id) == 29 for call_id in ids)
    calls = list(answered(HERMES, PING + PING).calls)
    assert all(len(call.id) == 9 for call in answered(MISTRAL, MISTRAL.write(calls)).calls)
    written = KIMI.write(calls)
    assert [c.id for c in answered(KIMI, written).calls] == ["functions.ping:0", "functions.ping:1"]
    again = written.replace("ping:1", "ping:0")
    assert len({call.id for call in answered(KIMI, again).calls}) == 2


def test_an_answer_with_calls_ends_for_them() -> None:
    assert answered(HERMES, PING).finish.reason is FinishReason.TOOL_CALLS
    assert answered(HERMES, PING, tools=None).finish.reason is FinishReason.STOP
    assert answered(HERMES, "Yes.", tools=TOOLS).finish.reason is FinishReason.STOP
