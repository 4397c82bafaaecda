"""Vercel's `ai` with its provider for servers like OpenAI's: steps, objects and exceptions."""

from __future__ import annotations

import pytest
from client_answers import check_call, check_refusal, check_same_answer, check_trip
from client_session import Report, node_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return node_session("vercel_session.mjs", demo_host.url, "demo")


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_its_first_step_calls_the_tool(report: Report, way: str) -> None:
    check_call(report[way]["call"])


def test_its_second_step_answers_the_same_streamed_and_whole(report: Report) -> None:
    check_same_answer(report["whole"]["answer"], report["streamed"]["answer"])
    assert report["streamed"]["deltas"] == report["whole"]["answer"]["text"]


@pytest.mark.parametrize("answer", ["structured", "structured_text", "streamed_structure"])
def test_it_parses_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_throws_its_own_exception_and_does_not_retry(report: Report, error: str) -> None:
    check_refusal(report[error], "AI_APICallError")
    assert report[error]["is_retryable"] is False
