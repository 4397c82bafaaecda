"""litellm, by the names of three of its providers: calls, answers of a form, exceptions."""

from __future__ import annotations

import pytest
from client_answers import check_call, check_same_answer, check_trip
from client_session import Report, python_session
from server import Server


@pytest.fixture(scope="module")
def reports(demo_host: Server) -> Report:
    return python_session("litellm_session.py", demo_host.url, "demo")


@pytest.fixture(params=["openai", "anthropic"])
def calls(request: pytest.FixtureRequest, reports: Report) -> Report:
    told: Report = reports["calls"][request.param]
    return told


@pytest.mark.parametrize("call", ["call", "streamed_call", "asynchronous_call"])
def test_it_is_told_of_a_call(calls: Report, call: str) -> None:
    check_call(calls[call])


def test_a_result_is_answered_the_same_streamed_and_whole(calls: Report) -> None:
    check_same_answer(calls["answer"], calls["streamed_answer"])


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
@pytest.mark.parametrize("answer", ["structured", "streamed_structure"])
def test_it_is_given_answers_of_a_form(reports: Report, provider: str, answer: str) -> None:
    check_trip(reports["forms"][provider][answer])


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_raises_its_own_exception(reports: Report, provider: str, error: str) -> None:
    assert reports["errors"][provider][error] == {
        "exception": "BadRequestError",
        "status": 400,
        "names_it": True,
    }
