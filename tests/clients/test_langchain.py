"""LangChain's ChatOpenAI: tools, structured output by both of its ways, text, exceptions."""

from __future__ import annotations

import pytest
from client_answers import check_call, check_refusal, check_same_answer, check_trip
from client_session import Report, python_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return python_session("langchain_session.py", demo_host.url, "demo")


@pytest.mark.parametrize("call", ["call", "streamed_call", "asynchronous_call"])
def test_it_is_told_of_a_call(report: Report, call: str) -> None:
    check_call(report[call])


def test_a_result_is_answered_the_same_streamed_and_whole(report: Report) -> None:
    check_same_answer(report["answer"], report["streamed_answer"])


@pytest.mark.parametrize("answer", ["structured", "streamed_structure", "structure_by_a_call"])
def test_it_parses_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


def test_its_model_of_texts_says_the_same_streamed_and_whole(report: Report) -> None:
    assert report["text"]
    assert report["streamed_text"] == report["text"]


@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_raises_its_own_exception(report: Report, error: str) -> None:
    check_refusal(report[error], "OpenAIInvalidRequestError")
