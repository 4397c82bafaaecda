"""Vercel's `ai` with its provider for OpenAI: steps, stored items, objects and exceptions."""

from __future__ import annotations

import pytest
from client_answers import check_call, check_refusal, check_same_answer, check_trip
from client_session import Report, node_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return node_session("vercel_openai_session.mjs", demo_host.url, "demo")


@pytest.mark.parametrize("way", ["whole", "whole_items", "streamed"])
def test_its_first_step_calls_the_tool(report: Report, way: str) -> None:
    check_call(report[way]["call"])


@pytest.mark.parametrize("way", ["whole_items", "streamed"])
def test_its_second_step_answers_the_same_whichever_way_it_went(report: Report, way: str) -> None:
    check_same_answer(report["whole"]["answer"], report[way]["answer"])
    assert report["streamed"]["deltas"] == report["whole"]["answer"]["text"]


def test_it_refers_to_stored_answers_and_is_answered_as_if_it_sent_them(report: Report) -> None:
    stored, whole = report["conversation"], report["unstored_conversation"]
    assert stored["items"] == ["user", "item_reference", "user"]
    assert whole["items"] == ["user", "assistant", "user"]
    assert stored["text"] == whole["text"]


@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_it_parses_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_throws_its_own_exception_and_does_not_retry(report: Report, error: str) -> None:
    check_refusal(report[error], "AI_APICallError")
    assert report[error]["is_retryable"] is False
