"""What `llmserve chat` makes of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from manual_clock import ManualClock

from llmserve.cli.chat_stream import Kind, Reply
from llmserve.errors import ConfigurationError


def line(**delta: Any) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]})


def call(index: int, **fields: Any) -> dict[str, Any]:
    return {"index": index, "function": fields}


def test_what_is_no_event_of_a_chat_is_told() -> None:
    for wrong in ("data: 3", "data: {", 'data: {"choices": 3}', 'data: {"choices": [{}]}'):
        with pytest.raises(ConfigurationError, match="not an event of a chat"):
            list(Reply().pieces([wrong]))
    with pytest.raises(ConfigurationError, match="no room"):
        list(Reply().pieces([line(content="a"), 'data: {"error": {"message": "no room"}}']))


def test_thoughts_text_and_calls_are_told_apart() -> None:
    reply = Reply()
    lines = [
        ": accepted", "", line(role="assistant", content=""),
        line(reasoning_content="Hm", reasoning="Hm"), line(content="Wait"), line(content="."),
        line(tool_calls=[call(0, name="look") | {"id": "c1"}]),
        line(tool_calls=[call(0, arguments='{"a"')]), line(tool_calls=[call(0, arguments=": 1}")]),
        line(tool_calls=[call(1, name="go", arguments="{}") | {"id": "c2"}]), "data: [DONE]",
    ]  # fmt: skip
    assert list(reply.pieces(lines)) == [
        (Kind.REASONING, "Hm"), (Kind.TEXT, "Wait"), (Kind.TEXT, "."), (Kind.CALL, "\nlook "),
        (Kind.CALL, '{"a"'), (Kind.CALL, ": 1}"), (Kind.CALL, "\ngo {}"),
    ]  # fmt: skip
    assert reply.message() == {
        "role": "assistant",
        "content": "Wait.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}},
            {"id": "c2", "type": "function", "function": {"name": "go", "arguments": "{}"}},
        ],
    }


def test_the_speed_is_told_once_the_server_has_counted() -> None:
    clock = ManualClock()
    reply = Reply(clock)
    pieces = reply.pieces(
        [line(content="a"), line(content="b"),
         'data: {"choices": [], "usage": {"completion_tokens": 11}}']
    )  # fmt: skip
    clock.now += 0.5
    next(pieces)
    assert reply.speed == ""
    clock.now += 2.0
    assert [text for _, text in pieces] == ["b"]
    assert reply.speed.endswith("11 tokens, the first after 0.00 s, 5.0 tokens/s")
    alone = Reply(clock)
    list(alone.pieces([line(content="a"), 'data: {"choices":[],"usage":{"completion_tokens":1}}']))
    assert alone.speed == "1 tokens, the first after 0.00 s"
