"""Asks a model for tool calls, answers with results and fillings that the corpus has."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from demo_corpus.tools import Conversation, write_with_tools

Say = Callable[[Any, Any], str]
"""The model's next message after these messages, with these tools."""

CONVERSATIONS: Final = 120


def examine(say: Say) -> float:
    """The share of right answers; prints the wrong ones."""
    rng = random.Random(11)
    asked = right = 0
    for _ in range(CONVERSATIONS):
        told = write_with_tools(rng, list)
        for before, expected in _questions(told):
            got = say(before, told.get("tools"))
            asked += 1
            right += got == expected
            if got != expected:
                print(f"WRONG {before[-1]['content']!r} -> {got!r}, not {expected!r}")
    print(f"{right}/{asked} tool calls, answers and fillings right")
    return right / asked


def _questions(told: Conversation) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """What comes before each assistant's message, and its text."""
    for place, message in enumerate(told["messages"]):
        if message["role"] == "assistant":
            yield told["messages"][:place], _written(message)


def _written(message: dict[str, Any]) -> str:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return message["content"] + "".join(
        f"<tool_call>\n{json.dumps(dict(call))}\n</tool_call>" for call in calls
    )
