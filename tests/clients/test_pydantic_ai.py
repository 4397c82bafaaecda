"""pydantic-ai: single requests, agents that call and answer, outputs by both of its ways."""

from __future__ import annotations

import pytest
from client_answers import check_call, check_refusal, check_same_answer, check_trip
from client_session import Report, python_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return python_session("pydantic_ai_session.py", demo_host.url, "demo")


@pytest.mark.parametrize("call", ["call", "streamed_call"])
def test_it_is_told_of_a_call(report: Report, call: str) -> None:
    check_call(report[call])


def test_an_agent_calls_its_tool_and_answers_the_same_streamed_and_whole(report: Report) -> None:
    check_same_answer(report["answer"], report["streamed_answer"])
    for answer in ("answer", "streamed_answer"):
        kinds = report[answer]["kinds"]
        assert kinds[:3] == ["user-prompt", "tool-call", "tool-return"]
        assert kinds[3:] in ([], ["text"])


@pytest.mark.parametrize(
    "answer",
    ["structured", "streamed_structure", "structure_by_a_call", "streamed_structure_by_a_call"],
)
def test_it_validates_outputs_of_a_form(report: Report, answer: str) -> None:
    check_trip(report[answer])


@pytest.mark.parametrize("error", ["error", "streamed_error"])
def test_it_raises_its_own_exception(report: Report, error: str) -> None:
    check_refusal(report[error], "ModelHTTPError")
