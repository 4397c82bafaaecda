"""OpenAI's client for JavaScript: calls, tools that it runs, parsed answers and exceptions."""

from __future__ import annotations

import pytest
from client_answers import (
    check_call,
    check_refusal,
    check_same_answer,
    check_trip,
    check_weather,
)
from client_session import Report, node_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return node_session("openai_session.mjs", demo_host.url, "demo")


@pytest.mark.parametrize("call", ["call", "streamed_call"])
def test_it_is_told_of_a_call(report: Report, call: str) -> None:
    check_call(report[call])


def test_it_runs_a_tool_itself(report: Report) -> None:
    check_weather(report["ran_tools"]["given"])
    assert report["ran_tools"]["roles"] == ["user", "assistant", "tool"]


def test_a_result_is_answered_the_same_streamed_and_whole(report: Report) -> None:
    check_same_answer(report["answer"], report["streamed_answer"])


@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_it_parses_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_throws_its_own_exception(report: Report, error: str) -> None:
    check_refusal(report[error], "BadRequestError")
    assert report[error]["request_id"]
