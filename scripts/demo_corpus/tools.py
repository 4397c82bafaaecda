"""Tools as a client gives them, calls of them, and what they return."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Final

from demo_corpus.measures import invent_kind
from demo_corpus.names import draw, with_article
from demo_corpus.tool_kinds import HELD_OUT_LOOK_UP, KINDS, LOOK_UP, Finding, Kind

Values = dict[str, Any]
"""What stands in the slots of a question and its answer."""

RESULT_SLOTS: Final = (
    "sky", "degrees", "price", "time", "phone", "date", "count", "people", "distance", "sides",
    "percent", "minutes", "color", "day", "person", "city", "country",
)  # fmt: skip
DESCRIBES: Final = ("The {}.", "The {}", "Which {}", "The {} to look up", "Name of the {}")
EXTRAS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("unit", {"type": "string", "enum": ["celsius", "fahrenheit"]}),
    ("language", {"type": "string"}),
    ("format", {"type": "string", "enum": ["short", "long"]}),
    ("limit", {"type": "integer"}),
)
"""Parameters that nobody has to give, and that the model leaves out."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of some kind under one of its names; `parameters` has its names of the slots."""

    kind: Kind
    name: str
    parameters: dict[str, str]
    schema: dict[str, Any]

    def call(self, values: Values) -> dict[str, Any]:
        """The call that an assistant's message has."""
        arguments = {name: values[slot] for slot, name in self.parameters.items()}
        return {"type": "function", "function": {"name": self.name, "arguments": arguments}}

    def draw(self, rng: random.Random, *, held_out: bool = False) -> Values:
        """Values for a question and for what the tool may find."""
        values = {slot: draw(rng, slot) for slot in RESULT_SLOTS}
        values |= {slot: draw(rng, slot, held_out=held_out) for slot in self.kind.parameters}
        return values | {"a_thing": with_article(values.get("thing"))}


def draw_tool(
    rng: random.Random,
    *,
    is_name_held_out: bool = False,
    is_property_held_out: bool = False,
    share_of_properties: float = 0.35,
) -> Tool:
    """A tool of any kind, with a name and parameters that training has, or has not."""
    if is_property_held_out or rng.random() < share_of_properties:
        kind = invent_kind(rng, held_out=is_property_held_out)
    else:
        kind = rng.choice(KINDS)
    parameters = {slot: rng.choice(names) for slot, names in kind.parameters.items()}
    if is_name_held_out:
        verb = rng.choice(HELD_OUT_LOOK_UP if kind.verbs is LOOK_UP else kind.verbs)
        name = f"{verb}_{rng.choice(kind.held_out_nouns)}"
    else:
        name = _name(rng, rng.choice(kind.verbs), rng.choice(kind.nouns))
    return Tool(kind, name, parameters, _schema(rng, kind, name, parameters))


def draw_tools(rng: random.Random, first: Tool, count: int) -> list[Tool]:
    """So many tools, one of them the first, in any order; no two of one kind or name."""
    tools = [first]
    while len(tools) < count:
        other = draw_tool(rng)
        taken = {noun for tool in tools for noun in tool.kind.nouns}
        if not taken & set(other.kind.nouns) and other.name not in {t.name for t in tools}:
            tools.append(other)
    rng.shuffle(tools)
    return tools


def write_result(rng: random.Random, finding: Finding, values: Values) -> str:
    """The content of a tool's message: JSON as Python or as JavaScript writes it, or text."""
    if isinstance(finding.result, str):
        return fill(finding.result, values)
    content = {
        key: values[value[1:-1]] if value[1:-1] in values else fill(value, values)
        for key, value in ((k, v) for k, v in finding.result.items() if isinstance(v, str))
    }
    content |= {key: value for key, value in finding.result.items() if not isinstance(value, str)}
    return json.dumps(content, separators=(",", ":") if rng.random() < 0.25 else None)


def fill(text: str, values: Values) -> str:
    """The text with its slots filled."""
    return text.format(**values)


def _name(rng: random.Random, verb: str, noun: str) -> str:
    style = rng.random()
    if style < 0.1:
        return noun
    words = f"{verb}_{noun}".split("_")
    if style < 0.2:
        return words[0] + "".join(word.capitalize() for word in words[1:])
    return "_".join(words)


def _schema(
    rng: random.Random, kind: Kind, name: str, parameters: dict[str, str]
) -> dict[str, Any]:
    """In OpenAI's form, as fully or as briefly as clients write it."""
    properties = {
        parameter: {"type": _type(rng, slot)}
        | ({"title": parameter.capitalize()} if rng.random() < 0.06 else {})
        | ({"description": rng.choice(DESCRIBES).format(parameter)} if rng.random() < 0.3 else {})
        for slot, parameter in parameters.items()
    }
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.15:
        extra, described = rng.choice(EXTRAS)
        properties.setdefault(extra, dict(described))
    if rng.random() < 0.8:
        schema["required"] = list(parameters.values())
    if rng.random() < 0.15:
        schema["additionalProperties"] = False
    function: dict[str, Any] = {"name": name}
    if rng.random() < 0.85:
        function["description"] = rng.choice(kind.describes)
    function["parameters"] = schema
    return {"type": "function", "function": function}


def _type(rng: random.Random, slot: str) -> str:
    is_number = isinstance(draw(random.Random(0), slot), int)
    return rng.choice(("number", "integer")) if is_number else "string"
