"""Anthropic's client for JavaScript: messages, streams, a round trip and exceptions."""

from __future__ import annotations

import pytest
from client_session import Report, node_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return node_session("anthropic_session.mjs", demo_host.url, "demo")


def test_an_answer_whole_and_streamed(report: Report) -> None:
    answer = report["answer"]
    assert [block["type"] for block in answer["content"]] == ["text"]
    assert answer["stop_reason"] in ("end_turn", "max_tokens")
    usage = answer["usage"]
    counted = usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert report["count"]["input_tokens"] == counted
    events = report["streamed"]["events"]
    assert (events[0], events[-2:]) == ("message_start", ["message_delta", "message_stop"])
    assert report["streamed"]["message"]["stop_reason"] == "max_tokens"
    assert report["streamed"]["message"]["usage"]["output_tokens"] == 5


def test_a_call_and_its_result(report: Report) -> None:
    call = report["trip"]["call"]
    assert (call["type"], call["name"]) == ("tool_use", "get_weather")
    assert list(call["input"]) == ["city"]
    assert report["trip"]["answer"]["role"] == "assistant"


@pytest.mark.parametrize(
    ("error", "exception", "status", "kind"),
    [
        ("error", "BadRequestError", 400, "invalid_request_error"),
        ("streamed_error", "BadRequestError", 400, "invalid_request_error"),
        ("unknown_model", "NotFoundError", 404, "not_found_error"),
    ],
)
def test_it_throws_its_own_exception(
    report: Report, error: str, exception: str, status: int, kind: str
) -> None:
    told = report[error]
    assert (told["exception"], told["status"], told["type"]) == (exception, status, kind)
    assert told["has_id"]


def test_it_lists_models(report: Report) -> None:
    assert report["models"] == ["demo", "thinker"]
