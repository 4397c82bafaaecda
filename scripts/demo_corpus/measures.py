"""Tools that find one property of one thing, made up by the hundred: get_height, check_color, …

They teach a model to copy: no two of them need the same name, parameter or answer.
"""

from __future__ import annotations

import random
from typing import Final

from demo_corpus.names import invent
from demo_corpus.tool_kinds import LOOK_UP, Finding, Kind

PROPERTIES: Final = (
    "height", "weight", "length", "width", "depth", "size", "speed", "score", "rank", "level",
    "status", "owner", "leader", "color", "shape", "value", "budget", "area", "volume", "power",
    "range", "year", "version", "address", "code", "capital", "language", "currency", "mayor",
    "grade", "rating", "balance", "limit", "share", "profit", "load", "pressure", "fuel", "model",
    "boss", "teacher", "doctor", "captain", "director", "singer", "team", "class", "title", "job",
)  # fmt: skip
HELD_OUT_PROPERTIES: Final = ("altitude", "salary", "mood", "voltage", "nickname", "birthplace")
OWNERS: Final = (
    "tower", "ship", "planet", "river", "mountain", "lake", "bridge", "car", "robot", "player",
    "horse", "project", "company", "server", "island", "castle", "star", "engine", "country",
    "school", "worker", "customer", "order", "film", "song", "device", "machine", "house",
)  # fmt: skip
PARAMETERS: Final = ("name", "name", "id", "which", "query", "key", "of", "target", "subject")
VALUES: Final = (
    "{count}", "{count}", "{people}", "{price}", "{person}", "{city}", "{color}", "{country}",
    "{percent} percent", "{time}", "{sky}", "{distance} meters", "{date}",
)  # fmt: skip
QUESTIONS: Final = (
    "What is the {property} of {{country}}?", "Tell me the {property} of {{country}}.",
    "What is the {property} of the {owner} {{country}}?", "What {property} has {{country}}?",
    "Find the {property} of {{country}}.", "What is {{country}}'s {property}?",
    "Give me the {property} of {{country}}.", "Do you know the {property} of {{country}}?",
)  # fmt: skip


def invent_kind(rng: random.Random, *, held_out: bool = False) -> Kind:
    """A kind of tool that finds a property; sometimes the property is an invented word."""
    word = invent(rng) if rng.random() < 0.25 else rng.choice(PROPERTIES)
    if held_out:
        word = rng.choice(HELD_OUT_PROPERTIES)
    owner = rng.choice(OWNERS)
    value = rng.choice(VALUES)
    answer = f"The {word} of {{country}} is {value}."
    return Kind(
        nouns=(word, word, f"{owner}_{word}", f"{word}_of_{owner}"),
        describes=(
            f"Get the {word} of a {owner}.",
            f"The {word} of a {owner}",
            f"Look the {word} up.",
        ),
        parameters={"country": (owner, *PARAMETERS)},
        questions=tuple(q.format(property=word, owner=owner) for q in QUESTIONS),
        findings=(
            Finding({word: value}, answer),
            Finding({"name": "{country}", word: value}, answer),
            Finding({rng.choice(("value", "result", "answer")): value}, answer),
            Finding(value, answer),
        ),
        pairs=(f"What is the {word} of {{one}} and of {{two}}?",),
        verbs=LOOK_UP,
        held_out_nouns=(word,),
    )
