"""OpenAI's Python client and the Responses API: calls, round trips, stored responses, errors."""

from __future__ import annotations

import pytest
from client_answers import (
    check_call,
    check_refusal,
    check_same_answer,
    check_trip,
    check_weather,
)
from client_session import Report, main_session
from server import Server

OF_A_CALL = [
    "response.created", "response.in_progress", "response.output_item.added",
    "response.function_call_arguments.done", "response.output_item.done", "response.completed",
]  # fmt: skip
OF_A_TEXT = [
    "response.created", "response.in_progress", "response.output_item.added",
    "response.content_part.added", "response.output_text.done", "response.content_part.done",
    "response.output_item.done",
]  # fmt: skip


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return main_session("responses_session.py", demo_host.url, "demo")


@pytest.mark.parametrize("call", ["call", "streamed_call", "accumulated_call", "asynchronous_call"])
def test_it_is_told_of_a_call(report: Report, call: str) -> None:
    check_call(report[call])
    assert report[call]["status"] == "completed"


def test_the_events_of_a_call_and_of_a_text_are_those_of_the_reference(report: Report) -> None:
    call, text = report["types_of_call"], report["types_of_text"]
    assert call.count("response.function_call_arguments.delta") > 1
    assert [kind for kind in call if not kind.endswith(".delta")] == OF_A_CALL
    assert text.count("response.output_text.delta") > 1
    assert [kind for kind in text if not kind.endswith(".delta")][:-1] == OF_A_TEXT
    assert text[-1] in ("response.completed", "response.incomplete")


def test_what_a_model_thinks_is_an_item_before_its_answer(report: Report) -> None:
    thought = report["thought"][0]
    assert (thought["type"], thought["status"], thought["summary"]) == (
        "reasoning",
        "incomplete",
        [],
    )
    assert thought["content"][0]["text"]
    assert report["thinking_tokens"] == 8
    types = report["types_of_thought"]
    assert types.count("response.reasoning_text.delta") > 1
    assert [kind for kind in types if not kind.endswith(".delta")] == [
        kind.replace("output_text", "reasoning_text") for kind in OF_A_TEXT
    ] + ["response.incomplete"]


def test_it_parses_the_arguments_of_a_strict_tool(report: Report) -> None:
    check_weather(report["parsed_call"])


def test_a_text_is_the_same_streamed_and_whole(report: Report) -> None:
    check_same_answer(report["text"], report["streamed_text"])


@pytest.mark.parametrize("answer", ["streamed_answer", "stored_answer", "streamed_stored_answer"])
def test_a_result_is_answered_the_same_with_all_items_and_after_a_stored_response(
    report: Report, answer: str
) -> None:
    check_same_answer(report["answer"], report[answer])


@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_it_parses_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


def test_every_token_of_a_text_has_its_log_probability(report: Report) -> None:
    # The token that ends the answer has none of its text.
    assert len(report["logprobs"]) in (report["scored_tokens"], report["scored_tokens"] - 1)
    assert set(report["logprobs"]) == {2}


def test_an_answer_that_was_cut_short_is_incomplete(report: Report) -> None:
    assert report["cut"] == ["incomplete", "max_output_tokens", "incomplete"]


def test_one_in_the_background_ends_is_deleted_and_cancelled(report: Report) -> None:
    told = report["background"]
    assert told["begun"] == "queued"
    assert told["ended"] in ("completed", "incomplete")
    assert told["text"]
    assert len(told["input"]) == 1
    assert (told["gone"]["exception"], told["gone"]["code"]) == (
        "NotFoundError",
        "response_not_found",
    )
    assert (told["cancelled"], told["stays"]) == ("cancelled", "cancelled")


def test_tokens_of_an_input_are_counted_as_they_are_used(report: Report) -> None:
    assert report["counted"] == report["counted_by_use"]


@pytest.mark.parametrize(
    ("error", "param"),
    [
        ("error", "temperature"),
        ("streamed_error", "temperature"),
        ("error_of_a_tool", "tools.0"),
        ("error_of_a_choice", "tool_choice"),
        ("error_of_a_schema", "text.format.schema"),
        ("error_of_an_image", "input.0.content.0"),
    ],
)
def test_it_raises_its_own_exception(report: Report, error: str, param: str) -> None:
    check_refusal(report[error], "BadRequestError", param)
    assert report[error]["type"] == "invalid_request_error"
    assert report[error]["request_id"]


def test_what_is_not_there_is_told_by_code(report: Report) -> None:
    previous, model = report["error_of_the_previous"], report["unknown_model"]
    assert (previous["status"], previous["code"]) == (400, "previous_response_not_found")
    assert (model["exception"], model["code"]) == ("NotFoundError", "model_not_found")
