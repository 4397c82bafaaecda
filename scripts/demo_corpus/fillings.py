"""Requests to fill a few fields from a sentence, answered with one line of JSON."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Final

from demo_corpus.measures import HELD_OUT_PROPERTIES, PROPERTIES
from demo_corpus.names import draw, invent
from demo_corpus.tools import RESULT_SLOTS, fill

REQUESTS: Final = (
    "Fill in {fields} as JSON: {text}", "Fill in {fields} as JSON: {text}",
    "Fill in {fields} as JSON. {text}", "{text} Fill in {fields} as JSON.",
    "Give me {fields} as JSON: {text}", "Write {fields} as JSON: {text}",
    "Extract {fields} as JSON: {text}", "Fill in the fields {fields} as JSON: {text}",
    "Fill in {fields}: {text}", "Answer with JSON ({fields}): {text}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """Fields with the slot that each is filled from, and sentences that tell them."""

    fields: dict[str, str]
    sentences: tuple[str, ...]


FORMS: Final = (
    Form({"name": "person", "age": "age"},
         ("{person} is {age} years old.", "My name is {person} and I am {age} years old.",
          "{person} is {age}.", "I am {person}, {age} years old.", "{person} turned {age} today.")),
    Form({"name": "person", "city": "city"},
         ("{person} lives in {city}.", "My name is {person} and I live in {city}.",
          "{person} comes from {city}.", "In {city} there is a woman called {person}.")),
    Form({"name": "person", "age": "age", "city": "city"},
         ("{person} is {age} years old and lives in {city}.",
          "{person} from {city} is {age} years old.", "{person}, {age}, lives in {city}.")),
    Form({"name": "person", "phone": "phone"},
         ("{person}'s number is {phone}.", "Call {person} at {phone}.",
          "You can call {person}: {phone}.")),
    Form({"item": "thing", "price": "price"},
         ("The price of {thing} is {price}.", "We sell {thing} for {price}.",
          "I paid {price} for {thing}.")),
    Form({"item": "thing", "count": "count"},
         ("We have {count} of {thing}.", "There are {count} in the box of {thing}.")),
    Form({"title": "title", "author": "person"},
         ("{title} was written by {person}.", "{person} wrote {title}.",
          "{title} is a book by {person}.")),
    Form({"day": "day", "time": "time"},
         ("We meet on {day} at {time}.", "The lesson is on {day} at {time}.",
          "Come at {time} on {day}.")),
    Form({"name": "person", "day": "day", "time": "time"},
         ("{person} comes on {day} at {time}.", "I meet {person} on {day} at {time}.",
          "On {day} at {time} I see {person}.")),
    Form({"city": "city", "degrees": "degrees"},
         ("It is {degrees} degrees in {city}.", "In {city} it is {degrees} degrees.")),
    Form({"city": "city", "sky": "sky", "degrees": "degrees"},
         ("It is {sky} in {city}, and it is {degrees} degrees.",
          "In {city} it is {degrees} degrees and {sky}.")),
    Form({"start": "start", "end": "end"},
         ("We travel from {start} to {end}.", "The train goes from {start} to {end}.",
          "I want to go to {end} from {start}.")),
    Form({"name": "person", "color": "color"},
         ("{person} likes {color}.", "{person}'s car is {color}.", "{person} wears {color}.")),
    Form({"name": "person", "birthday": "date"},
         ("{person} was born on {date}.", "The birthday of {person} is {date}.")),
    Form({"room": "room", "color": "color"},
         ("The {room} is {color}.", "We painted the {room} {color}.")),
)  # fmt: skip


def write_filling(rng: random.Random, *, held_out: bool = False) -> tuple[str, str]:
    """A request and the JSON that it asks for."""
    form = rng.choice(FORMS)
    if held_out or rng.random() < 0.3:
        form = _invented(rng, HELD_OUT_PROPERTIES if held_out else PROPERTIES)
    values = {slot: draw(rng, slot, held_out=held_out) for slot in form.fields.values()}
    text = fill(rng.choice(form.sentences), values)
    names = list(form.fields)
    if rng.random() < 0.3:
        rng.shuffle(names)
    if rng.random() < 0.15:
        names = names[:-1]
    content = {name: values[form.fields[name]] for name in names}
    request = rng.choice(REQUESTS).format(fields=_listed(rng, names, content), text=text)
    return request, json.dumps(content)


def _listed(rng: random.Random, names: list[str], content: dict[str, Any]) -> str:
    """`name and age`, `name, age`, or the schema with the type of each."""
    if rng.random() < 0.12:
        types = {n: "string" if isinstance(content[n], str) else "number" for n in names}
        return json.dumps(types)
    if len(names) == 1 or rng.random() < 0.2:
        return ", ".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]


def _invented(rng: random.Random, properties: tuple[str, ...]) -> Form:
    """A form with a property of something that has a name."""
    word = invent(rng) if rng.random() < 0.2 else rng.choice(properties)
    slot = rng.choice([s for s in RESULT_SLOTS if s not in ("person", "country")])
    return Form(
        {"name": "person", word: slot},
        (f"The {word} of {{person}} is {{{slot}}}.", f"{{person}} has the {word} {{{slot}}}.",
         f"{{person}}'s {word} is {{{slot}}}."),
    )  # fmt: skip
