"""Conversations with tools, and requests to fill in fields, as a chat template takes them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from demo_corpus.dialogues import SYSTEM_PROMPTS

Conversation = dict[str, Any]
"""`messages`, and `tools` where there are any."""

CITIES: Final = (
    "Paris", "London", "Berlin", "Rome", "Madrid", "Oslo", "Vienna", "Prague", "Lisbon", "Athens",
    "Tokyo", "Beijing", "Shanghai", "Delhi", "Cairo", "Boston", "Chicago", "Toronto", "Sydney",
    "Lima",
)  # fmt: skip
THINGS: Final = (
    "bread", "milk", "tea", "coffee", "rice", "honey", "cheese", "butter", "salt", "sugar",
    "apples", "nuts", "soup", "fish",
)  # fmt: skip
SKIES: Final = ("sunny", "cloudy", "rainy", "windy", "foggy", "clear")
NAMES: Final = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Lena",
    "Max", "Nina", "Oscar", "Paul", "Rosa", "Sam", "Tom", "Vera", "Walter",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A tool that the model learns to use.

    Attributes:
        parameter: its only one, a text.
        values: of the parameter.
        questions: with `{}` for a value.
        result: what the tool gives.
        answer: the sentence with a result, from the value.
    """

    name: str
    parameter: str
    descriptions: tuple[str, ...]
    values: tuple[str, ...]
    questions: tuple[str, ...]
    result: Callable[[random.Random], dict[str, Any]]
    answer: Callable[[str, Mapping[str, Any]], str]


KINDS: Final = (
    Kind(
        "get_weather",
        "city",
        ("The weather in a city.", "Get the current weather in a city.", "Current weather."),
        CITIES,
        (
            "What is the weather in {}?", "What is the weather like in {}?",
            "How is the weather in {}?",
            "What's the weather in {}?", "Tell me the weather in {}.", "Is it warm in {}?",
        ),
        lambda rng: {"degrees": rng.randrange(-9, 40), "sky": rng.choice(SKIES)},
        lambda city, got: f"It is {got['degrees']} degrees and {got['sky']} in {city}.",
    ),
    Kind(
        "get_time",
        "city",
        ("The time in a city.", "Get the local time of a city.", "Current time."),
        CITIES,
        ("What time is it in {}?", "What is the time in {}?", "How late is it in {}?"),
        lambda rng: {"time": f"{rng.randrange(24):02}:{rng.randrange(60):02}"},
        lambda city, got: f"It is {got['time']} in {city}.",
    ),
    Kind(
        "get_price",
        "item",
        ("The price of a thing.", "Get the price of an item in the shop.", "Price in euros."),
        THINGS,
        ("What does {} cost?", "How much is {}?", "What is the price of {}?"),
        lambda rng: {"euros": rng.randrange(1, 60)},
        lambda thing, got: f"The price of {thing} is {got['euros']} euros.",
    ),
)  # fmt: skip

FILLINGS: Final = (
    "Fill in name and age as JSON: {name} is {age} years old.",
    "Fill in name and age as JSON: {name} is {age}.",
    "Write name and age as JSON: {name} is {age} years old.",
    "Name and age as JSON, please: {name} is {age} years old.",
)


def write_with_tools(rng: random.Random, plain: Callable[[], list[dict[str, str]]]) -> Conversation:
    """One conversation; `plain` makes those in which no tool is needed."""
    choice = rng.random()
    if choice < 0.35:
        return _filled(rng)
    offered = rng.sample(KINDS, rng.randrange(1, len(KINDS) + 1))
    tools = [_definition(kind, rng) for kind in offered]
    if choice < 0.5:
        turns = plain()
        return {"messages": turns, "tools": tools}
    kind = rng.choice(offered)
    value = rng.choice(kind.values)
    asked = rng.choice(kind.questions).format(value)
    messages = [*_system(rng), {"role": "user", "content": asked}]
    call = {
        "type": "function",
        "function": {"name": kind.name, "arguments": {kind.parameter: value}},
    }
    result = kind.result(rng)
    messages += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": json.dumps(result)},
        {"role": "assistant", "content": kind.answer(value, result)},
    ]
    return {"messages": messages, "tools": tools}


def _filled(rng: random.Random) -> Conversation:
    name, age = rng.choice(NAMES), rng.randrange(1, 100)
    asked = rng.choice(FILLINGS).format(name=name, age=age)
    answer = json.dumps({"name": name, "age": age})
    return {
        "messages": [
            *_system(rng),
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]
    }


def _system(rng: random.Random) -> list[dict[str, Any]]:
    if rng.random() < 0.8:
        return []
    return [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}]


def _definition(kind: Kind, rng: random.Random) -> dict[str, Any]:
    parameter: dict[str, Any] = {"type": "string"}
    if rng.random() < 0.2:
        parameter["description"] = f"The {kind.parameter}."
    schema: dict[str, Any] = {"type": "object", "properties": {kind.parameter: parameter}}
    if rng.random() < 0.85:
        schema["required"] = [kind.parameter]
    if rng.random() < 0.3:
        schema["additionalProperties"] = False
    function: dict[str, Any] = {"name": kind.name}
    if rng.random() < 0.85:
        function["description"] = rng.choice(kind.descriptions)
    return {"type": "function", "function": function | {"parameters": schema}}
