"""Reads texts as models write them, in pieces."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmserve.domain import Delta, Finish, FinishReason, SamplingParams, Tool, Usage
from llmserve.service.answer import Answer, Collector
from llmserve.text.output.new_parser import new_parser
from llmserve.text.output.syntax import OutputSyntax

WEATHER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 0, "maximum": 20},
        "wet": {"type": "boolean"},
        "unit": {"type": "string", "enum": ["c", "f"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3},
        "at": {
            "type": "object",
            "properties": {"x": {"type": "number", "minimum": 0, "maximum": 1}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
NOTHING: Final[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}


def tool(name: str, parameters: dict[str, Any], *, is_strict: bool = False) -> Tool:
    function = {"name": name, "parameters": parameters}
    definition = json.dumps({"type": "function", "function": function})
    return Tool(name, definition, json.dumps(parameters), is_strict)


TOOLS: Final = (tool("weather", WEATHER), tool("ping", NOTHING))


@dataclass(frozen=True)
class Read:
    """What came of a text; calls as pairs of name and arguments."""

    text: str
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()


def read(
    syntax: OutputSyntax,
    written: str,
    cuts: Sequence[int] = (),
    tools: Sequence[Tool] | None = TOOLS,
    opening: str = "",
) -> Read:
    """The text in pieces, cut at these indices."""
    answer = answered(syntax, written, cuts, tools, opening)
    return Read(
        answer.text, answer.reasoning, tuple((call.name, call.arguments) for call in answer.calls)
    )


def answered(
    syntax: OutputSyntax,
    written: str,
    cuts: Sequence[int] = (),
    tools: Sequence[Tool] | None = TOOLS,
    opening: str = "",
) -> Answer:
    parser = new_parser(syntax, tools, opening, random.Random(7), None)
    collector = Collector()
    edges = sorted({0, len(written), *(cut for cut in cuts if cut < len(written))})
    for start, end in itertools.pairwise(edges):
        for delta in parser.feed(Delta(written[start:end], (start,))):
            collector.add(delta)
    for delta in parser.flush():
        collector.add(delta)
    finish = parser.conclude(Finish(FinishReason.STOP, Usage(1, len(edges) - 1)))
    assert isinstance(finish, Finish)
    return collector.answer(finish, SamplingParams())
