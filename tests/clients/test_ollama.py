"""Ollama's Python client: chats, calls, answers of a form, raw texts, models, errors."""

from __future__ import annotations

from typing import Any

import pytest
from client_answers import check_trip
from client_session import Report, python_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return python_session("ollama_session.py", demo_host.url, "demo", "thinker")


def check_ending(ending: dict[str, Any]) -> None:
    assert ending["done"]
    assert ending["done_reason"] == "stop"
    assert all(count > 0 for count in ending["counts"])
    *parts, whole = ending["durations"]
    assert all(isinstance(duration, int) and duration >= 0 for duration in ending["durations"])
    assert abs(sum(parts) - whole) < 1000, "nanoseconds, rounded"


def test_it_reads_an_answer(report: Report) -> None:
    check_ending(report["answer"])
    assert (report["answer"]["role"], report["answer"]["model"]) == ("assistant", "demo")
    assert report["tagged"]["text"] == report["answer"]["text"] != ""


@pytest.mark.parametrize("answer", ["streamed_answer", "asynchronous_answer"])
def test_a_streamed_answer_is_the_same_in_pieces(report: Report, answer: str) -> None:
    check_ending(report[answer])
    assert report[answer]["parts"] > 2
    assert (report[answer]["roles"], report[answer]["early"]) == (["assistant"], [])
    assert report[answer]["text"] == report["answer"]["text"]
    assert report[answer]["counts"] == report["answer"]["counts"]


@pytest.mark.parametrize("call", ["call", "streamed_call"])
def test_it_is_told_of_a_call_with_arguments_as_an_object(report: Report, call: str) -> None:
    check_ending(report[call])
    assert report[call]["calls"] == [["get_weather", {"city": "Paris"}]]


def test_a_result_is_answered_the_same_streamed_and_whole(report: Report) -> None:
    whole, streamed = report["trip_with_tools"], report["streamed_trip_with_tools"]
    check_ending(whole)
    assert whole["text"] == streamed["text"] != ""
    assert whole["calls"] == streamed["calls"] == []


@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_answers_have_the_form_that_was_wanted(report: Report, answer: str) -> None:
    check_trip(report[answer])


def test_a_model_thinks_if_it_is_asked_to(report: Report) -> None:
    thought, silent = report["thought"], report["not_thought"]
    assert thought["streamed"] == thought["thinking"] != ""
    assert thought["capabilities"] == ["completion", "tools", "thinking"]
    assert (silent["thinking"], silent["streamed"]) == (None, "")
    assert silent["streamed_text"] == silent["text"] != ""


def test_a_raw_text_goes_on(report: Report) -> None:
    generated = report["generated"]
    check_ending(generated["ending"])
    assert generated["streamed"] == generated["text"] != ""
    assert (generated["cut"]["done_reason"], generated["cut"]["counts"][1]) == ("length", 2)
    assert len(generated["logprobs"]) == 2
    assert (generated["load"]["done"], generated["load"]["done_reason"]) == (True, "load")


def test_it_lists_and_shows_models(report: Report) -> None:
    assert report["listed"]["model"] == report["loaded"]["model"] == "demo:latest"
    assert report["listed"]["digest"] == report["loaded"]["digest"]
    assert report["listed"]["size"] > 0
    shown = report["shown"]
    assert shown["capabilities"] == ["completion", "tools"]
    family = shown["family"]
    assert shown["info"]["general.architecture"] == family
    assert shown["info"][f"{family}.context_length"] == report["loaded"]["context"]
    assert "tool_call" in shown["template"]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("temperature", 400, "options.temperature"),
        ("streamed", 400, "options.temperature"),
        ("images", 400, "images: images cannot be read"),
        ("suffix", 400, "'suffix' is not supported"),
        ("format", 400, "format cannot be served"),
        ("think", 400, "does not support thinking"),
        ("model", 404, "'nobody' is not served"),
        ("pull", 400, "/api/pull is not served"),
        ("embed", 400, "does not embed texts"),
        ("delete", 400, "/api/delete is not served"),
    ],
)
def test_it_raises_its_own_exception(report: Report, error: str, status: int, words: str) -> None:
    assert report["errors"][error]["status"] == status
    assert words in report["errors"][error]["error"]
