"""Anthropic's Python client: messages, typed streams, round trips, tools that it runs, thinking,
parsed answers and exceptions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from client_session import Report, main_session
from server import Server

FACT = (
    "List warm-up prompts in model.toml. They run when the model is loaded, before readiness turns "
    "to 200."
)
WEATHER = "It is 18 degrees and sunny in Paris."


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return main_session("anthropic_session.py", demo_host.url, "demo", "thinker")


def text_of(message: dict[str, Any]) -> str:
    [block] = message["content"]
    assert block["type"] == "text"
    return str(block["text"])


def blocks_of(events: list[dict[str, Any]]) -> list[str]:
    """The types of a stream's blocks, once it is clear that events come in their order."""
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    blocks: list[str] = []
    is_open = False
    for event in events[1:-2]:
        assert event["type"].startswith("content_block_"), event
        begins, ends = (event["type"] == f"content_block_{end}" for end in ("start", "stop"))
        assert is_open is not begins, event
        blocks += [event["content_block"]["type"]] if begins else []
        assert event["index"] == len(blocks) - 1
        is_open = not ends
    assert not is_open
    return blocks


def test_an_answer_is_the_same_streamed_and_whole(report: Report) -> None:
    answer, streamed = report["answer"], report["streamed_answer"]
    assert text_of(answer) == FACT
    assert (answer["stop_reason"], answer["has_ids"]) == ("end_turn", True)
    kinds = streamed.pop("kinds")
    assert kinds.count("text") == kinds.count("content_block_delta") > 5
    assert streamed == answer
    assert report["asynchronous"]["text"] == FACT


def test_events_come_in_order_and_are_what_the_client_knows(report: Report) -> None:
    assert blocks_of(report["raw"]) == ["text"]
    assert blocks_of(report["raw_call"]) == ["tool_use"]
    assert report["raw_call"][-2]["delta"]["stop_reason"] == "tool_use"
    pieces = [event["delta"]["partial_json"] for event in report["raw_call"][2:-3]]
    assert json.loads("".join(pieces)) == {"city": "Paris"}
    assert len(pieces) > 1


def test_tokens_are_counted_as_they_are_used(report: Report) -> None:
    counts = {report["count"], report["asynchronous"]["input_tokens"]}
    assert counts == {report["answer"]["input_tokens"]}


def test_it_is_told_why_an_answer_ended(report: Report) -> None:
    cut = report["cut"]
    assert (cut["stop_reason"], cut["output_tokens"]) == ("max_tokens", 3)
    stopped = report["stopped"]
    assert text_of(stopped) == FACT.partition("model.toml")[0]
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "model.toml")


def test_an_answer_that_was_begun_goes_on(report: Report) -> None:
    assert "List warm-up" + text_of(report["begun"]) == FACT


@pytest.mark.parametrize("trip", ["round_trip", "streamed_round_trip"])
def test_a_call_and_its_result(report: Report, trip: str) -> None:
    call, called, answer = report[trip]
    assert call["id"].startswith("toolu_")
    assert (call["name"], call["input"]) == ("get_weather", {"city": "Paris"})
    assert called["stop_reason"] == "tool_use"
    assert text_of(answer) == WEATHER


def test_it_runs_a_tool_itself(report: Report) -> None:
    """Its runner asks the server to hold the conversation, and goes on without when told so."""
    assert report["ran_tools"] == {"given": ["Paris"], "text": WEATHER}


def test_a_call_that_must_be_made_is_made(report: Report) -> None:
    [call] = report["forced"]["content"]
    assert (call["type"], report["forced"]["stop_reason"]) == ("tool_use", "tool_use")
    assert call["input"]["city"] in ("Oslo", "Rome")


def test_it_parses_an_answer_of_a_form(report: Report) -> None:
    assert report["parsed"] == {"name": "Anna", "age": 7}


@pytest.mark.parametrize("thinking", ["thinking", "silent_thinking"])
def test_a_model_that_thinks_within_a_budget(report: Report, thinking: str) -> None:
    for turn in ("first", "again"):
        answer = report[thinking][turn]
        thought = answer["content"][0]
        assert (thought["type"], bool(thought["signature"])) == ("thinking", True)
        assert bool(thought["thinking"]) is (thinking == "thinking")
        assert 0 < answer["thinking_tokens"] <= 9, "the budget, and the end of thinking"
    raw = report[thinking]["raw"]
    assert blocks_of(raw)[:2] == ["thinking", "text"]
    kinds = [event["delta"]["type"] for event in raw if event["type"] == "content_block_delta"]
    assert ("thinking_delta" in kinds) is (thinking == "thinking")
    assert kinds.count("signature_delta") == 1


def test_a_model_that_is_not_to_think(report: Report) -> None:
    told = report["no_thinking"]
    assert "thinking" not in blocks_of(told["raw"])
    assert told["first"]["thinking_tokens"] == told["again"]["thinking_tokens"] == 0


@pytest.mark.parametrize(
    ("error", "exception", "status", "kind", "words"),
    [
        ("error", "BadRequestError", 400, "invalid_request_error", "temperature: "),
        ("streamed_error", "BadRequestError", 400, "invalid_request_error", "temperature: "),
        ("image", "BadRequestError", 400, "invalid_request_error", "messages.0.content.0: images"),
        ("server_tool", "BadRequestError", 400, "invalid_request_error", "web_search_20250305"),
        ("unknown_model", "NotFoundError", 404, "not_found_error", "'nobody'"),
        ("batches", "NotFoundError", 404, "not_found_error", "no message batches"),
        ("too_long", "BadRequestError", 400, "invalid_request_error", "prompt is too long: "),
    ],
)
def test_it_raises_its_own_exception(
    report: Report, error: str, exception: str, status: int, kind: str, words: str
) -> None:
    told = report[error]
    assert (told["exception"], told["status"], told["type"]) == (exception, status, kind)
    assert words in told["message"]
    assert told["has_id"]
    assert told["code"]


def test_it_lists_and_retrieves_models(report: Report) -> None:
    assert report["models"] == ["demo", "thinker"]
    assert (report["model"]["id"], report["model"]["type"]) == ("demo", "model")
