"""instructor: answers of a form by a call and by a schema, whole and as they fill."""

from __future__ import annotations

import pytest
from client_answers import check_refusal, check_trip, check_usage, check_weather
from client_session import Report, python_session
from server import Server

by_each_mode = pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return python_session("instructor_session.py", demo_host.url, "demo")


@by_each_mode
def test_it_validates_answers_of_a_form(report: Report, mode: str) -> None:
    check_weather(report["weather"][mode])
    check_trip(report["structured"][mode])
    check_usage(report["usage"][mode])


@by_each_mode
def test_a_form_fills_while_it_is_streamed(report: Report, mode: str) -> None:
    assert report["partial"][mode]["parts"] > 1
    check_trip(report["partial"][mode]["last"])


def test_it_raises_its_own_exception(report: Report) -> None:
    check_refusal(report["error"], "InstructorRetryException")
