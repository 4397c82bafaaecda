"""A generation's events in, the Responses API's events out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from scripted_generation import ScriptedGeneration

from llmserve.api.responses.body import ResponseBody
from llmserve.api.responses.resource import Resource
from llmserve.api.responses.writer import ResponseWriter
from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    SamplingParams,
    Started,
    TokenLogprobs,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from llmserve.errors import GenerationFailed, LLMServeError, QueueFull, ShuttingDown
from llmserve.service import Answer

END = Finish(FinishReason.STOP, Usage(3, 5, 1, 2))
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CALLS = (
    Delta("", (1,), calls=(ToolCallDelta(0, id="call_1", name="f"),)),
    Delta("", (2,), calls=(ToolCallDelta(0, '{"a"'), ToolCallDelta(0, ": 1}"))),
    Delta("", (3,), calls=(ToolCallDelta(1, "{}", id="call_2", name="g"),)),
)

OF_OPENAI_ALONE = {
    "access_programs", "background_options", "image", "input_transformations", "moderation",
    "prompt_cache_diagnostics", "prompt_cache_options", "tool_usage",
}  # fmt: skip
"""Fields of a response about what only OpenAI does."""

Told = list[dict[str, Any]]


def writer(*, logprobs: bool = False, thoughts: bool = True, **fields: Any) -> ResponseWriter:
    body = ResponseBody.model_validate({"input": "hi"} | fields)
    resource = Resource(body, "fake", SamplingParams())
    return ResponseWriter(
        [ScriptedGeneration()],  # type: ignore[list-item]
        resource,
        tells_logprobs=logprobs,
        tells_reasoning=thoughts,
    )


def events(it: ResponseWriter, *scripted: Event) -> Told:
    """Each is named by its type, numbered in order, and valid by the official client's model."""
    frames = [frame for event in scripted for frame in it.frames(0, event)]
    assert list(it.end([Usage()])) == []
    told = [json.loads(frame.partition(b"data: ")[2]) for frame in frames if frame[:1] != b":"]
    named = [frame for frame in frames if frame[:1] != b":"]
    for number, (frame, event) in enumerate(zip(named, told, strict=True)):
        assert frame.startswith(f"event: {event['type']}\n".encode())
        assert event["sequence_number"] == number
        assert EVENT.validate_python(event).type == event["type"]
    return told


def short(told: Iterable[dict[str, Any]]) -> Iterator[str]:
    """`output_item.added 0`: what happens to which item."""
    for event in told:
        place = event.get("output_index")
        yield event["type"].removeprefix("response.") + ("" if place is None else f" {place}")


def test_a_text_begins_grows_and_ends() -> None:
    told = events(writer(), Started(3), Delta("a", (7,)), Delta("b", (8,)), END)
    assert list(short(told)) == [
        "created",
        "in_progress",
        "output_item.added 0",
        "content_part.added 0",
        "output_text.delta 0",
        "output_text.delta 0",
        "output_text.done 0",
        "content_part.done 0",
        "output_item.done 0",
        "completed",
    ]
    added, part, first, second, done, part_done, item_done = told[2:9]
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])
    item_id = added["item"]["id"]
    assert {e["item_id"] for e in (part, first, second, done, part_done)} == {item_id}
    assert {e["content_index"] for e in (part, first, second, done, part_done)} == {0}
    text = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert part["part"] == text
    assert [first["delta"], second["delta"], done["text"]] == ["a", "b", "ab"]
    assert part_done["part"] == text | {"text": "ab"}
    assert item_done["item"] == {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [text | {"text": "ab"}],
    }
    [created, in_progress, last] = [told[i]["response"] for i in (0, 1, -1)]
    assert created == in_progress
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    assert last["output"] == [item_done["item"]]
    assert last["id"] == created["id"]
    assert item_id.split("_")[1] == created["id"].removeprefix("resp_")
    assert last["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 8,
    }
    assert (last["status"], last["error"], last["incomplete_details"]) == ("completed", None, None)
    assert last["completed_at"] >= last["created_at"]


def test_reasoning_text_and_calls_are_items_one_after_another() -> None:
    thought = Delta("", (1,), reasoning="hm")
    told = events(writer(), Started(3), thought, thought, Delta("so", (2,)), *CALLS, END)
    assert list(short(told))[2:-1] == [
        "output_item.added 0",
        "content_part.added 0",
        "reasoning_text.delta 0",
        "reasoning_text.delta 0",
        "reasoning_text.done 0",
        "content_part.done 0",
        "output_item.done 0",
        "output_item.added 1",
        "content_part.added 1",
        "output_text.delta 1",
        "output_text.done 1",
        "content_part.done 1",
        "output_item.done 1",
        "output_item.added 2",
        "function_call_arguments.delta 2",
        "function_call_arguments.delta 2",
        "function_call_arguments.done 2",
        "output_item.done 2",
        "output_item.added 3",
        "function_call_arguments.delta 3",
        "function_call_arguments.done 3",
        "output_item.done 3",
    ]
    output = told[-1]["response"]["output"]
    assert [(item["type"], item["status"]) for item in output] == [
        ("reasoning", "completed"),
        ("message", "completed"),
        ("function_call", "completed"),
        ("function_call", "completed"),
    ]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hmhm"}]
    assert output[0]["summary"] == []
    calls = [(item["call_id"], item["name"], item["arguments"]) for item in output[2:]]
    assert calls == [("call_1", "f", '{"a": 1}'), ("call_2", "g", "{}")]
    assert len({item["id"] for item in output}) == 4
    by_place = [e["item"] for e in told if e["type"] == "response.output_item.done"]
    assert by_place == output


def test_one_delta_may_have_the_end_of_a_thought_and_the_beginning_of_a_text() -> None:
    told = events(writer(), Delta("a", (1, 2), reasoning="x", calls=CALLS[2].calls), END)
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]


def test_who_does_not_want_the_thoughts_gets_no_item_of_them() -> None:
    told = events(writer(thoughts=False), Delta("", (1,), reasoning="x"), Delta("a", (2,)), END)
    assert [item["type"] for item in told[-1]["response"]["output"]] == ["message"]


def test_an_answer_that_says_nothing_is_an_empty_message() -> None:
    told = events(writer(), Started(3), END)
    [item] = told[-1]["response"]["output"]
    assert item["content"][0]["text"] == ""
    assert "output_text.delta 0" not in list(short(told))


@pytest.mark.parametrize(
    ("reason", "stop_reason"), [(FinishReason.LENGTH, None), (FinishReason.TIMEOUT, "timeout")]
)
def test_an_answer_that_was_cut_short_is_incomplete(
    reason: FinishReason, stop_reason: str | None
) -> None:
    told = events(writer(), Delta("a", (1,)), *CALLS[:2], Finish(reason, Usage(3, 3)))
    assert told[-1]["type"] == "response.incomplete"
    response = told[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert (response.get("stop_reason"), response["completed_at"]) == (stop_reason, None)


def test_a_failure_in_mid_stream_has_an_error_and_what_there_was() -> None:
    failed = Failed(GenerationFailed("it broke", param="x"), Usage(3, 1))
    told = events(writer(), Delta("a", (1,)), failed)
    error, last = told[-2:]
    assert error["type"] == "error"
    assert (error["code"], error["message"], error["param"]) == (
        "generation_failed",
        "it broke",
        "x",
    )
    assert last["type"] == "response.failed"
    response = last["response"]
    assert response["error"] == {"code": "server_error", "message": "it broke"}
    assert (response["status"], response["usage"]["output_tokens"]) == ("failed", 1)
    [item] = response["output"]
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "a")


@pytest.mark.parametrize(
    ("error", "code"),
    [(QueueFull("no"), "rate_limit_exceeded"), (ShuttingDown("no"), "server_error")],
)
def test_a_failure_before_the_first_token_begins_the_response_all_the_same(
    error: LLMServeError, code: str
) -> None:
    told = events(writer(), Queued(1, None), Failed(error, Usage()))
    assert list(short(told)) == ["created", "queued", "in_progress", "error", "failed"]
    assert told[-1]["response"]["error"]["code"] == code


def test_a_cancelled_response_says_so() -> None:
    told = events(writer(), Delta("a", (1,)), Cancelled(Usage(3, 1)))
    assert told[-1]["type"] == "response.incomplete"
    assert told[-1]["response"]["status"] == "cancelled"
    assert told[-1]["response"]["incomplete_details"] is None


def test_waiting_is_told_once_by_an_event_and_then_by_comments() -> None:
    it = writer()
    first, second = [*it.frames(0, Queued(2, 1.25))], [*it.frames(0, Queued(1, None))]
    assert [frame.split(b"\n")[0] for frame in first] == [
        b"event: response.created",
        b"event: response.queued",
        b": queued position=2 eta_seconds=1.2",
    ]
    assert second == [b": queued position=1\n\n"]
    [started] = it.frames(0, Started(3))
    assert started.startswith(b"event: response.in_progress")
    assert [*it.frames(0, Started(3))] == []


def test_log_probabilities_come_with_the_text_of_their_tokens() -> None:
    told = [TokenLogprobs(ord(letter), -0.5, ((ord("z"), -0.25),)) for letter in "abcdx"]
    it = writer(logprobs=True)
    seen = events(
        it,
        Delta("", (1,), (told[4],), reasoning="x"),
        Delta("", (1,), (told[0],)),
        Delta("ab", (2,), (told[1],)),
        Delta("c", (3,), (told[2],)),
        Delta("", (4,), (told[3],)),
        END,
    )
    deltas = [
        (e["delta"], [token["token"] for token in e["logprobs"]])
        for e in seen
        if e["type"] == "response.output_text.delta"
    ]
    assert deltas == [("ab", ["a", "b"]), ("c", ["c"]), ("", ["d"])]
    part = seen[-1]["response"]["output"][1]["content"][0]
    assert [token["token"] for token in part["logprobs"]] == ["a", "b", "c", "d"]
    assert part["logprobs"][0] == {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "z", "logprob": -0.25, "bytes": [122]}],
    }


def test_very_many_log_probabilities_come_in_several_events() -> None:
    tokens = (TokenLogprobs(97, -0.5),) * 150
    told = events(writer(logprobs=True), Delta("a" * 150, (97,) * 150, tokens), END)
    counts = [len(e["logprobs"]) for e in told if e["type"] == "response.output_text.delta"]
    assert counts == [64, 64, 22]


def test_a_whole_response_is_what_a_stream_ends_with() -> None:
    answer = Answer("so", (1,), END, None, None, "hm", (ToolCall("call_1", "f", '{"a": 1}'),))
    whole = writer().whole([answer])
    Response.model_validate(whole)
    thought = Delta("", (1,), reasoning="hm")
    told = events(writer(), thought, Delta("so", (2,)), *CALLS[:2], END)[-1]["response"]
    assert set(whole) == set(told)
    kinds = [
        [{name: value for name, value in item.items() if name != "id"} for item in one["output"]]
        for one in (whole, told)
    ]
    assert kinds[0] == kinds[1]
    assert whole["usage"] == told["usage"]


def test_a_response_repeats_what_was_asked() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    asked: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "max_tool_calls": 2,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "tool_choice": {"type": "function", "name": "f"},
        "top_logprobs": 2,
        "truncation": "auto",
        "user": "u",
    }
    more = {
        "include": ["message.output_text.logprobs"],
        "tools": [tool],
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "low"},
        "service_tier": "flex",
    }
    whole = writer(**asked, **more).whole([Answer("", (), END)])
    Response.model_validate(whole)
    assert {name: whole[name] for name in asked} == asked
    assert whole["tools"] == [tool | {"description": None}]
    assert whole["reasoning"] == {"effort": "low", "summary": None}
    assert whole["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (whole["service_tier"], whole["store"], whole["background"]) == ("default", False, False)
    assert (whole["temperature"], whole["top_p"], whole["model"]) == (1.0, 1.0, "fake")
    assert set(Response.model_fields) - OF_OPENAI_ALONE <= set(whole)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "auto"),
        ({"tool_choice": "none"}, "none"),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [
                {"type": "function", "name": "f"}]}},
            {"type": "allowed_tools", "mode": "auto", "tools": [
                {"type": "function", "name": "f"}]},
        ),
    ],
)  # fmt: skip
def test_the_choice_of_tools_is_repeated(fields: dict[str, Any], told: Any) -> None:
    tools = [{"type": "function", "name": "f"}]
    whole = writer(tools=tools, **fields).whole([Answer("", (), END)])
    assert whole["tool_choice"] == told


def test_a_schema_is_repeated() -> None:
    wanted = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    whole = writer(text={"format": wanted}).whole([Answer("{}", (), END)])
    assert whole["text"] == {"format": wanted, "verbosity": None}
    Response.model_validate(whole)
