"""A message's events in, Anthropic's out. Each is parsed by the types of their own library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter
from scripted_generation import ScriptedGeneration

from llmserve.api.anthropic.writer import MessageWriter, ping
from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    Started,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from llmserve.errors import GenerationFailed
from llmserve.observability.context import request_id
from llmserve.service import Answer

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
END = Finish(FinishReason.STOP, Usage(3, 2))
CALLS = (
    Delta("", (1,), calls=(ToolCallDelta(0, id="call_1", name="f"),)),
    Delta("", (2,), calls=(ToolCallDelta(0, '{"a"'),)),
    Delta("", (3,), calls=(ToolCallDelta(0, ": 1}"), ToolCallDelta(1, "{}", "own:2", "g"))),
)


def writer(**options: Any) -> MessageWriter:
    return MessageWriter(ScriptedGeneration(), **options)  # type: ignore[arg-type]


def told(*events: Event, message: MessageWriter | None = None) -> list[dict[str, Any]]:
    """What a client reads: every event has its type as its name, and is what their library knows;
    all but pings and errors."""
    message = message or writer()
    frames = [frame for event in events for frame in message.frames(0, event)]
    return [parsed(frame) for frame in [*frames, *message.end([Usage()])]]


def parsed(frame: bytes) -> dict[str, Any]:
    name, data, *rest = frame.decode().split("\n")
    assert rest == ["", ""], frame
    body: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert name == f"event: {body['type']}"
    if body["type"] not in ("ping", "error"):
        known = EVENT.validate_python(body, extra="forbid")
        assert known.to_dict(exclude_unset=True) == body
    return body


def content(events: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, Any]]:
    """The events of blocks: type, index, and the block, the delta, or nothing."""
    return [
        (
            e["type"].removeprefix("content_block_"),
            e["index"],
            e.get("content_block", e.get("delta")),
        )
        for e in events
        if "index" in e
    ]


def test_a_stream_of_text() -> None:
    events = told(Started(3, 2), Delta("so", (7,)), Delta(" it", (8,)), Delta("", (9,)), END)
    assert [event["type"] for event in events] == [
        "message_start", "ping", "content_block_start", "content_block_delta",
        "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    start = events[0]["message"]
    usage = start.pop("usage")
    assert start == {
        "id": "msg_r1",
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (1, 2)
    assert content(events) == [
        ("start", 0, {"type": "text", "text": ""}),
        ("delta", 0, {"type": "text_delta", "text": "so"}),
        ("delta", 0, {"type": "text_delta", "text": " it"}),
        ("stop", 0, None),
    ]
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }


def test_what_it_thought_comes_first_and_is_signed() -> None:
    both = Delta("so", (2,), reasoning="!")
    assert content(told(Delta("", (1,), reasoning="hm"), both, END)) == [
        ("start", 0, {"type": "thinking", "thinking": "", "signature": ""}),
        ("delta", 0, {"type": "thinking_delta", "thinking": "hm"}),
        ("delta", 0, {"type": "thinking_delta", "thinking": "!"}),
        ("delta", 0, {"type": "signature_delta", "signature": "msg_r1"}),
        ("stop", 0, None),
        ("start", 1, {"type": "text", "text": ""}),
        ("delta", 1, {"type": "text_delta", "text": "so"}),
        ("stop", 1, None),
    ]


def test_thinking_that_is_not_to_be_shown_has_its_block_alone() -> None:
    message = writer(shows_thinking=False)
    events = told(Delta("", (1,), reasoning="hm"), Delta("so", (2,)), END, message=message)
    assert content(events)[:3] == [
        ("start", 0, {"type": "thinking", "thinking": "", "signature": ""}),
        ("delta", 0, {"type": "signature_delta", "signature": "msg_r1"}),
        ("stop", 0, None),
    ]
    answer = Answer("so", (1, 2), END, reasoning="hm")
    assert message.whole([answer])["content"][0]["thinking"] == ""


def test_each_call_is_a_block_whose_input_comes_in_pieces() -> None:
    finish = Finish(FinishReason.TOOL_CALLS, Usage(3, 4))
    events = told(Delta("See:", (0,)), *CALLS, finish)
    assert content(events)[2:] == [
        ("stop", 0, None),
        ("start", 1, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}),
        ("delta", 1, {"type": "input_json_delta", "partial_json": '{"a"'}),
        ("delta", 1, {"type": "input_json_delta", "partial_json": ": 1}"}),
        ("stop", 1, None),
        ("start", 2, {"type": "tool_use", "id": "own:2", "name": "g", "input": {}}),
        ("delta", 2, {"type": "input_json_delta", "partial_json": "{}"}),
        ("stop", 2, None),
    ]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_call_that_is_open_goes_on_before_the_text_of_the_same_delta() -> None:
    mixed = Delta(
        "Done", (2,), calls=(ToolCallDelta(0, "{}"), ToolCallDelta(1, id="call_2", name="g"))
    )
    events = content(told(CALLS[0], mixed, END))
    assert [(kind, index) for kind, index, _ in events] == [
        ("start", 0), ("delta", 0), ("stop", 0),
        ("start", 1), ("delta", 1), ("stop", 1),
        ("start", 2), ("stop", 2),
    ]  # fmt: skip
    assert [event[2]["type"] for event in events if event[0] == "start"] == [
        "tool_use", "text", "tool_use",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("finish", "reason", "sequence"),
    [
        (Finish(FinishReason.STOP, Usage()), "end_turn", None),
        (Finish(FinishReason.STOP, Usage(), "END"), "stop_sequence", "END"),
        (Finish(FinishReason.STOP, Usage(), "the model's own"), "end_turn", None),
        (Finish(FinishReason.LENGTH, Usage()), "max_tokens", None),
        (Finish(FinishReason.TIMEOUT, Usage()), "max_tokens", None),
        (Finish(FinishReason.TOOL_CALLS, Usage()), "tool_use", None),
    ],
)
def test_why_it_ended(finish: Finish, reason: str, sequence: str | None) -> None:
    end = {"stop_reason": reason, "stop_sequence": sequence}
    message = writer(stop_sequences=("END",))
    start, _ping, delta, stop = told(finish, message=message)
    assert (start["type"], delta["delta"], stop) == ("message_start", end, {"type": "message_stop"})
    whole = message.whole([Answer("", (), finish)])
    assert {name: whole[name] for name in end} == end
    assert whole["content"] == []


def test_waiting_is_a_comment_and_opens_nothing() -> None:
    message = writer()
    assert [*message.frames(0, Queued(2, 1.25))] == [b": queued position=2 eta_seconds=1.2\n\n"]
    assert [event["type"] for event in told(Started(3), message=message)] == [
        "message_start", "ping",
    ]  # fmt: skip


@pytest.mark.parametrize("before", [(), (Started(3), Delta("so", (7,)))])
def test_a_failure_is_the_last_event(before: tuple[Event, ...]) -> None:
    token = request_id.set("r1")
    try:
        events = told(*before, Failed(GenerationFailed("it broke"), Usage()))
    finally:
        request_id.reset(token)
    assert events[-1] == {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "it broke",
            "details": {"error_code": "generation_failed"},
        },
        "request_id": "r1",
    }
    assert "content_block_stop" not in [event["type"] for event in events]


def test_a_cancelled_message_ends_without_a_reason() -> None:
    *_, stop, delta, last = told(Delta("so", (7,)), Cancelled(Usage(3, 1)))
    assert stop == {"type": "content_block_stop", "index": 0}
    assert delta["delta"] == {"stop_reason": None, "stop_sequence": None}
    assert delta["usage"]["output_tokens"] == 1
    assert last["type"] == "message_stop"


def test_a_whole_message_has_all_its_blocks() -> None:
    finish = Finish(FinishReason.TOOL_CALLS, Usage(8, 5, 6, reasoning_tokens=2))
    calls = (ToolCall("call_1", "f", '{"a": 1}'), ToolCall("b", "g", ""), ToolCall("c", "h", "{x"))
    body = writer().whole([Answer("so", (1,), finish, reasoning="hm", calls=calls)])
    Message.model_validate(body, extra="forbid")
    assert body["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "msg_r1"},
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {"arguments": "{x"}},
    ]
    assert body["usage"] == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 6,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_a_quiet_stream_is_sent_pings() -> None:
    assert ping().encode() == b'event: ping\ndata: {"type":"ping"}\n\n'
