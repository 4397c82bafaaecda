"""LangChain, pydantic-ai and litellm where they speak the Responses API."""

from __future__ import annotations

import pytest
from client_answers import check_trip, check_weather
from client_session import Report, python_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return python_session("responses_libraries_session.py", demo_host.url, "demo")


def test_langchain_calls_and_is_answered_the_same_streamed_and_whole(report: Report) -> None:
    told = report["langchain"]
    check_weather(told["arguments"])
    assert told["answer"]
    assert told["streamed_answer"] == told["answer"]


@pytest.mark.parametrize("library", ["langchain", "pydantic_ai"])
def test_answers_of_a_form_are_parsed(report: Report, library: str) -> None:
    check_trip(report[library]["trip"])


def test_litellm_is_told_the_same_streamed_and_whole(report: Report) -> None:
    told = report["litellm"]
    assert told["text"]
    assert told["streamed_text"] == told["text"]
    assert told["call"] == "get_weather"
