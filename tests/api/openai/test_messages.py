"""Messages as clients send them, and as the service takes them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.openai.messages import LEGACY_ID, ChatMessage
from llmserve.api.validation import invalid_request
from llmserve.domain import Message, ToolCall

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"role": "tool", "content": "x"}, "needs `tool_call_id`"),
        ({"role": "function", "content": "x"}, "needs its `name`"),
        ({"role": "user"}, "a message of the user needs `content`"),
        ({"role": "user", "content": None}, "a message of the user needs `content`"),
        ({"role": "assistant", "content": None}, "a message of the assistant needs `content`"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "needs `content`"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "`tool_calls` is for messages of"),
        ({"role": "system", "content": "x", "reasoning": "y"}, "`reasoning` is for messages of"),
        ({"role": "nobody", "content": "x"}, "role: Input should be"),
        ({"role": "user", "content": []}, "content: List should have at least 1 item"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "content.0: images cannot be read"),
        ({"role": "user", "content": [{"type": "text", "image_url": {"url": "x"}}]}, "image_url"),
        ({"role": "assistant", "content": "x", "audio": {"id": "y"}}, "'audio' is not supported"),
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "tool_calls.0.function: Field req"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(sent: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ChatMessage.model_validate(sent)
    assert told in invalid_request(refused.value.errors()).message


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ({"role": "user", "content": "hi"}, Message("user", "hi")),
        ({"role": "user", "content": "hi", "name": "ann"}, Message("user", "hi", name="ann")),
        ({"role": "developer", "content": "hi"}, Message("developer", "hi")),
        (
            {"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "b")]},
            Message("user", "ab"),
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            Message("assistant", "", tool_calls=(ToolCall("a", "f", '{"x": 1}'),)),
        ),
        (
            {"role": "tool", "content": "18", "tool_call_id": "a"},
            Message("tool", "18", tool_call_id="a"),
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            Message("assistant", "", tool_calls=(ToolCall(LEGACY_ID, "f", "{}"),)),
        ),
        (
            {"role": "function", "name": "f", "content": "18"},
            Message("tool", "18", name="f", tool_call_id=LEGACY_ID),
        ),
        (
            {"role": "assistant", "content": None, "refusal": "No."},
            Message("assistant", "No."),
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            Message("assistant", "No."),
        ),
        (
            {"role": "assistant", "content": "4", "reasoning_content": "2+2"},
            Message("assistant", "4", reasoning="2+2"),
        ),
        (
            {"role": "assistant", "content": "4", "reasoning": "2+2"},
            Message("assistant", "4", reasoning="2+2"),
        ),
    ],
)  # fmt: skip
def test_every_role_and_form_reaches_the_service(sent: dict[str, Any], taken: Message) -> None:
    assert ChatMessage.model_validate(sent).message() == taken


def test_an_answer_of_ours_comes_back_as_it_went() -> None:
    answer = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [CALL],
        "reasoning_content": "hm",
        "reasoning": "hm",
        "annotations": [],
        "audio": None,
        "function_call": None,
    }
    taken = ChatMessage.model_validate(answer)
    assert taken.message().tool_calls == (ToolCall("a", "f", '{"x": 1}'),)
    assert taken.unknown(9).first is None, "nothing of it is unknown"
