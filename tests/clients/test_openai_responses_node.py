"""OpenAI's client for JavaScript and the Responses API."""

from __future__ import annotations

import pytest
from client_answers import check_call, check_refusal, check_same_answer, check_trip
from client_session import Report, node_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return node_session("responses_session.mjs", demo_host.url, "demo")


@pytest.mark.parametrize("call", ["call", "streamed_call", "accumulated_call"])
def test_it_is_told_of_a_call(report: Report, call: str) -> None:
    check_call(report[call])


@pytest.mark.parametrize("answer", ["streamed_answer", "stored_answer"])
def test_a_result_is_answered_the_same_with_all_items_and_after_a_stored_response(
    report: Report, answer: str
) -> None:
    check_same_answer(report["answer"], report[answer])
    assert report["retrieved"] is True


@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_it_parses_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_throws_its_own_exception(report: Report, error: str) -> None:
    check_refusal(report[error], "BadRequestError")
    assert report[error]["request_id"]
