"""Items as messages."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.api.responses.body import ResponseBody
from llmserve.domain import Message, ToolCall
from llmserve.errors import InvalidRequest


def messages(*items: dict[str, Any], **fields: Any) -> list[Message]:
    body = ResponseBody.model_validate({"input": list(items)} | fields)
    return list(body.conversation().messages)


def text(role: str, said: str, kind: str = "input_text") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": said}]}


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc_1"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}


def test_a_text_is_a_message_of_the_user_after_the_instructions() -> None:
    body = ResponseBody.model_validate({"input": "hi", "instructions": "Be brief."})
    assert body.conversation().messages == (Message("system", "Be brief."), Message("user", "hi"))


def test_messages_keep_their_roles_and_their_parts_are_one_text() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    declined = [{"type": "refusal", "refusal": "no"}]
    assert messages(
        {"role": "developer", "content": "d"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": declined},
        text("system", "s"),
    ) == [
        Message("developer", "d"),
        Message("user", "ab"),
        Message("assistant", "no"),
        Message("system", "s"),
    ]


def test_what_an_assistant_thought_said_and_called_is_one_turn() -> None:
    other = CALL | {"call_id": "c2", "name": "g"}
    said = text("assistant", "so", "output_text")
    turn = Message(
        "assistant",
        "so",
        reasoning="hm",
        tool_calls=(ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}")),
    )
    results = [OUTPUT, OUTPUT | {"call_id": "c2", "output": [{"type": "input_text", "text": "x"}]}]
    assert messages(text("user", "?"), THOUGHT, said, CALL, other, *results) == [
        Message("user", "?"),
        turn,
        Message("tool", "sunny", tool_call_id="c1"),
        Message("tool", "x", tool_call_id="c2"),
    ]


def test_a_second_message_or_thought_begins_another_turn() -> None:
    said = text("assistant", "a", "output_text")
    assert messages(said, THOUGHT, said, said) == [
        Message("assistant", "a"),
        Message("assistant", "a", reasoning="hm"),
        Message("assistant", "a"),
    ]


def test_a_summary_stands_for_thoughts_that_are_not_there() -> None:
    summary = [{"type": "summary_text", "text": "x"}, {"type": "summary_text", "text": "y"}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": summary}
    [turn] = messages(thought, text("assistant", "a", "output_text"))
    assert turn.reasoning == "x\n\ny"


def test_a_result_needs_its_call_before_it() -> None:
    for items in ([OUTPUT], [OUTPUT, CALL], [CALL, OUTPUT | {"call_id": "c2"}]):
        with pytest.raises(InvalidRequest, match="call_id") as refusal:
            messages(*items)
        assert refusal.value.param == "input"


def test_an_answer_of_ours_comes_back_as_it_was() -> None:
    answer = {
        "id": "msg_1_0",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}],
    }
    body = ResponseBody.model_validate({"input": [answer, THOUGHT | {"encrypted_content": None}]})
    assert body.unknown(9).first is None
