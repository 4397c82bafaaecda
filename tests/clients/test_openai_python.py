"""OpenAI's Python client: calls, round trips, parsed answers and exceptions."""

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


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return main_session("openai_session.py", demo_host.url, "demo")


@pytest.mark.parametrize("call", ["call", "streamed_call", "asynchronous_call"])
def test_it_is_told_of_a_call(report: Report, call: str) -> None:
    check_call(report[call])


@pytest.mark.parametrize("call", ["streamed_call", "asynchronous_call"])
def test_a_streamed_call_comes_in_pieces_of_which_the_first_has_its_name(
    report: Report, call: str
) -> None:
    assert report[call]["pieces"] > 1


def test_it_parses_the_arguments_of_a_strict_tool(report: Report) -> None:
    check_weather(report["parsed_call"])


def test_a_result_is_answered_the_same_streamed_and_whole(report: Report) -> None:
    check_same_answer(report["answer"], report["streamed_answer"])


@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_it_parses_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


@pytest.mark.parametrize(
    ("error", "param"),
    [
        ("error", "temperature"),
        ("streamed_error", "temperature"),
        ("error_of_a_choice", "tool_choice"),
        ("error_of_a_schema", "response_format.json_schema.schema"),
    ],
)
def test_it_raises_its_own_exception(report: Report, error: str, param: str) -> None:
    check_refusal(report[error], "BadRequestError", param)
    assert report[error]["type"] == "invalid_request_error"
    assert report[error]["request_id"]


def test_a_model_that_is_not_there_is_not_found(report: Report) -> None:
    error = report["unknown_model"]
    assert (error["exception"], error["status"]) == ("NotFoundError", 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_it_lists_and_retrieves_models(report: Report) -> None:
    assert report["models"] == ["demo", "thinker", "demo-embedding", "ranker", "classifier"]
    assert (report["model"]["id"], report["model"]["object"]) == ("demo", "model")
