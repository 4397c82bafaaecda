"""What the trained model is asked, and which answers are right. Knows no model."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from demo_corpus.dialogues import Faq
from demo_corpus.fillings import write_filling
from demo_corpus.tool_dialogues import UNKNOWN, round_trip
from demo_corpus.tool_kinds import KINDS
from demo_corpus.tools import Tool, draw_tool, draw_tools

SEED: Final = 11
COUNT: Final = 120
"""Exercises of each kind."""

CALL: Final = "<tool_call>\n{}\n</tool_call>"


@dataclass(frozen=True, slots=True)
class Exercise:
    """A conversation that waits for an answer."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    expected: str
    accepts: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Subject:
    """Exercises of one kind, and the share that must be right; 0 where it is only told."""

    name: str
    bar: float
    exercises: list[Exercise]


def write_exam(faq: list[Faq]) -> list[Subject]:
    """Always the same exercises. Those that are held out have names that training never has."""
    rng = random.Random(SEED)
    bars = {"calls": 0.6, "answers": 0.9, "fillings": 0.9}
    draws: dict[str, dict[str, bool]] = {
        "seen kinds": {},
        "held-out cities, people and things": {"are_values_held_out": True},
        "held-out tool names": {"is_name_held_out": True},
        "held-out properties": {"is_property_held_out": True},
    }
    subjects = [
        Subject("questions", 0.95, [_question(entry, None) for entry in faq]),
        Subject("questions beside tools", 0.95,
                [_question(entry, _schemas(draw_tools(rng, draw_tool(rng), 2))) for entry in faq]),
        Subject("no tool fits", 0, [_unfit(rng) for _ in range(COUNT)]),
    ]  # fmt: skip
    for name, flags in draws.items():
        pairs = [_round_trip(rng, **flags) for _ in range(COUNT)]
        for kind, exercises in zip(("calls", "answers"), zip(*pairs, strict=True), strict=True):
            bar = 0.0 if flags else bars[kind]
            subjects.append(Subject(f"tool {kind}, {name}", bar, list(exercises)))
    for name, is_held_out in (("seen kinds", False), ("held-out properties and names", True)):
        exercises = [_filling(rng, is_held_out) for _ in range(COUNT)]
        bar = 0.0 if is_held_out else bars["fillings"]
        subjects.append(Subject(f"fillings, {name}", bar, exercises))
    return subjects


def _question(entry: Faq, tools: list[dict[str, Any]] | None) -> Exercise:
    return Exercise([{"role": "user", "content": entry.ask[0]}], tools, entry.answer, entry.accepts)


def _unfit(rng: random.Random) -> Exercise:
    """A question for a tool that is not given."""
    kind = rng.choice(KINDS)
    while (tool := draw_tool(rng)).kind is not kind:
        pass
    tools = [t for t in draw_tools(rng, tool, 3) if t is not tool]
    [question, *_] = round_trip(rng, tool, tool.draw(rng))
    return _exercise([question], _schemas(tools), UNKNOWN)


def _round_trip(
    rng: random.Random, *, are_values_held_out: bool = False, **names: bool
) -> tuple[Exercise, Exercise]:
    """One exercise that ends before the call, one that ends before the answer."""
    tool = draw_tool(rng, **names)
    while are_values_held_out and not {"city", "person", "thing"} & set(tool.kind.parameters):
        tool = draw_tool(rng, **names)
    tools = _schemas(draw_tools(rng, tool, rng.randint(1, 3)))
    values = tool.draw(rng, held_out=are_values_held_out)
    question, call, result, answer = round_trip(rng, tool, values)
    function = call["tool_calls"][0]["function"]
    return (
        _exercise([question], tools, CALL.format(json.dumps(function))),
        _exercise([question, call, result], tools, answer["content"]),
    )


def _filling(rng: random.Random, is_held_out: bool) -> Exercise:
    request, filled = write_filling(rng, held_out=is_held_out)
    return _exercise([{"role": "user", "content": request}], None, filled)


def _exercise(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, expected: str
) -> Exercise:
    return Exercise(messages, tools, expected, lambda answer: answer == expected)


def _schemas(tools: list[Tool]) -> list[dict[str, Any]]:
    return [tool.schema for tool in tools]
