"""litellm, by the names of two of its providers: calls, answers of a form, exceptions."""

from __future__ import annotations

import pytest
from client_answers import check_call, check_same_answer, check_trip
from client_session import Report, python_session
from server import Server


@pytest.fixture(scope="module")
def reports(demo_host: Server) -> Report:
    return python_session("litellm_session.py", demo_host.url, "demo")


@pytest.fixture(params=["openai", "hosted_vllm"])
def report(request: pytest.FixtureRequest, reports: Report) -> Report:
    told: Report = reports[request.param]
    return told


@pytest.mark.parametrize("call", ["call", "streamed_call", "asynchronous_call"])
def test_it_is_told_of_a_call(reports: Report, call: str) -> None:
    check_call(reports["calls"][call])


def test_a_result_is_answered_the_same_streamed_and_whole(reports: Report) -> None:
    check_same_answer(reports["calls"]["answer"], reports["calls"]["streamed_answer"])


@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_it_is_given_answers_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_raises_its_own_exception(report: Report, error: str) -> None:
    assert report[error] == {"exception": "BadRequestError", "status": 400, "names_it": True}
