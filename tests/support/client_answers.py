"""What every client library must have been told in its session, whatever the model is. (Not a
test.)"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from client_session import SESSIONS

TASK: Final = json.loads((SESSIONS / "task.json").read_text())
CITIES: Final = ("Oslo", "Paris", "Rome")
UNITS: Final = ("celsius", "fahrenheit")

Told = dict[str, Any]


def check_weather(arguments: Told) -> None:
    """The arguments of the tool, by its schema."""
    assert set(arguments) == {"city", "unit"}
    assert arguments["city"] in CITIES
    assert arguments["unit"] in UNITS


def check_call(call: Told) -> None:
    """One call of the tool, and nothing said beside it."""
    assert re.fullmatch(r"(call|toolu)_\w{8,}", call["id"]), call
    assert call["name"] == "get_weather"
    check_weather(call["arguments"])
    assert call["content"] is None
    assert call["finish_reason"] == "tool_calls"
    check_usage(call["usage"])


def check_answer(answer: Told) -> None:
    """What was said after the tool's result."""
    assert isinstance(answer["text"], str)
    assert answer["finish_reason"] in ("stop", "length")
    check_usage(answer["usage"])


def check_same_answer(answer: Told, streamed: Told) -> None:
    """Streamed at temperature 0 it is the same."""
    check_answer(answer)
    check_answer(streamed)
    assert streamed["text"] == answer["text"]
    assert streamed["finish_reason"] == answer["finish_reason"]
    for kind in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert streamed["usage"][kind] == answer["usage"][kind]


def check_usage(usage: Told) -> None:
    """The tokens are counted."""
    assert usage["prompt_tokens"] > 10
    assert 0 < usage["completion_tokens"] <= TASK["max_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def check_trip(trip: Told) -> None:
    """An answer of the form that was wanted."""
    assert set(trip) == {"is_far", "stops"}
    assert isinstance(trip["is_far"], bool)
    assert 1 <= len(trip["stops"]) <= 3
    for stop in trip["stops"]:
        assert set(stop) == {"city", "days"}
        assert stop["city"] in CITIES
        assert stop["days"] in range(1, 10)


def check_refusal(error: Told, exception: str, param: str = "temperature") -> None:
    """The library's own exception has our status, and says which field it was."""
    assert error["exception"] == exception
    assert error["status"] == 400
    assert error["param"] == param
    assert error["code"] == "invalid_request"
