"""Messages as clients send them, and the turns that the service takes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.anthropic.messages import MessageIn, turns
from llmserve.api.validation import invalid_request
from llmserve.domain import Message, ToolCall

TEXT = {"type": "text", "text": "x"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


def said(*messages: dict[str, Any], system: str = "") -> list[Message]:
    return list(turns(system, [MessageIn.model_validate(message) for message in messages]))


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"role": "wizard", "content": "x"}, "role: Input should be"),
        ({"role": "user"}, "content: Field required"),
        ({"role": "user", "content": None}, "content: Input should be a valid string"),
        ({"role": "user", "content": ""}, "a message of the user is empty"),
        (user(), "a message of the user is empty"),
        (user({"text": "x"}), "content.0.type: Field required"),
        (user({"type": "text"}), "content.0.text: Field required"),
        (user({"type": 7}), "content.0.type: Input should be 'text'"),
        (user(TEXT, {"type": "image", "source": {}}), "content.1: images cannot be read"),
        (user({"type": "document"}), "content.0: files cannot be read"),
        (user({"type": "nonsense"}), "'content.0.nonsense' is not supported"),
        (user(RESULT | {"content": [{"type": "image"}]}), "content.0.content.0: images cannot"),
        (user(RESULT | {"content": 7}), "content.0.content: Input should be a valid string"),
        (user({"type": "tool_result"}), "content.0.tool_use_id: Field required"),
        (user(CALL), "a message of the user has no `tool_use` blocks"),
        (user(THOUGHT), "a message of the user has no `thinking` blocks"),
        (assistant(RESULT), "a message of the assistant has no `tool_result` blocks"),
        (assistant(CALL | {"input": "{}"}), "content.0.input: Input should be a valid dict"),
        ({"role": "system", "content": [CALL]}, "a message of the system has no `tool_use`"),
        (user(TEXT | {"cache_control": {"type": "forever"}}), "cache_control.type: Input should"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(sent: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MessageIn.model_validate(sent)
    assert message in invalid_request(refused.value.errors()).message


def test_plain_messages_are_turns() -> None:
    messages = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"})
    assert said(*messages, system="be brief") == [
        Message("system", "be brief"),
        Message("user", "hi"),
        Message("assistant", "ho"),
    ]


def test_blocks_and_messages_of_one_role_are_one_turn() -> None:
    cached = TEXT | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = (user(cached, {"type": "text", "text": "y"}), {"role": "user", "content": "z"})
    assert said(*messages) == [Message("user", "x\ny\nz")]


def test_a_call_and_its_result() -> None:
    spoken = RESULT | {"content": [TEXT, {"type": "text", "text": "y"}]}
    assert said(
        user(TEXT),
        assistant(THOUGHT, TEXT, CALL, CALL | {"id": "toolu_2"}),
        user(spoken, RESULT | {"tool_use_id": "toolu_2", "content": "z"}, TEXT),
    ) == [
        Message("user", "x"),
        Message(
            "assistant",
            "x",
            reasoning="hm",
            tool_calls=(ToolCall("toolu_1", "f", '{"x":1}'), ToolCall("toolu_2", "f", '{"x":1}')),
        ),
        Message("tool", "x\ny", tool_call_id="toolu_1"),
        Message("tool", "z", tool_call_id="toolu_2"),
        Message("user", "x"),
    ]


@pytest.mark.parametrize(
    ("content", "is_error", "told"),
    [("gone", True, "Error: gone"), ("gone", False, "gone"), (None, None, "")],
)
def test_a_failed_tool_is_told_in_words(
    content: str | None, is_error: bool | None, told: str
) -> None:
    result = user(RESULT | {"content": content, "is_error": is_error})
    assert said(result) == [Message("tool", told, tool_call_id="toolu_1")]


def test_what_says_nothing_is_left_out_and_what_is_encrypted_is_told() -> None:
    redacted = MessageIn.model_validate(assistant({"type": "redacted_thinking", "data": "AAA"}))
    assert [*redacted.unknown(9)] == [(("content",), "data")]
    assert not redacted.says_something
    empty = MessageIn.model_validate({"role": "assistant", "content": []})
    spoken = MessageIn.model_validate(user(TEXT))
    assert list(turns("", [spoken, redacted, empty])) == [Message("user", "x")]


def test_an_answer_of_ours_may_come_back_as_it_is() -> None:
    call = CALL | {"caller": {"type": "direct"}, "toolset_name": None}
    text = TEXT | {"citations": None}
    message = MessageIn.model_validate(assistant(THOUGHT, text, call))
    assert [*message.unknown(9)] == []
