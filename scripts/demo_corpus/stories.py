"""Short English stories, drawn from plots whose every sentence has several wordings."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

from demo_corpus.plots import (
    ENDINGS,
    EPISODES,
    OPENINGS,
    PLOTS,
    SHORT_PLOTS,
    SOLO_ENDINGS,
    Line,
)
from demo_corpus.words import (
    ANIMAL_NAMES,
    ANIMALS,
    BUILDINGS,
    CHILDREN,
    FOODS,
    HOMES,
    PLACES,
    SKILLS,
    TRAITS,
    TREASURES,
    WEATHERS,
)

Length = Literal["short", "middle", "long"]


@dataclass(frozen=True, slots=True)
class Hero:
    """Who a story is about: `kind` is boy, girl or an animal."""

    kind: str
    name: str
    pronoun: str


def draw_hero(rng: random.Random, kind: str | None = None) -> Hero:
    """A child or an animal; of that kind, if one is given."""
    if kind in ("boy", "girl") or (kind is None and rng.random() < 0.35):
        children = [c for c in CHILDREN if kind is None or (c[1] == "she") == (kind == "girl")]
        name, pronoun = rng.choice(children)
        return Hero("girl" if pronoun == "she" else "boy", name, pronoun)
    name, pronoun = rng.choice(ANIMAL_NAMES)
    return Hero(kind or rng.choice(ANIMALS), name, pronoun)


def write_story(rng: random.Random, kind: str | None = None, length: Length | None = None) -> str:
    """One story: five sentences when short, about eleven in the middle, up to twenty when long."""
    length = length or rng.choices(("short", "middle", "long"), (15, 65, 20))[0]
    hero = draw_hero(rng, kind)
    friend = draw_hero(rng)
    while friend.name == hero.name or friend.kind == hero.kind:
        friend = draw_hero(rng)
    slots = _slots(rng, hero, friend)
    if length == "short":
        return _paragraph((OPENINGS, *rng.choice(SHORT_PLOTS), SOLO_ENDINGS), rng, slots)
    plot = rng.choice(PLOTS)
    middle = len(plot.lines) // 2 + rng.randint(-1, 1)
    paragraphs = [(OPENINGS, *plot.lines[:middle]), plot.lines[middle:]]
    if length == "long":
        paragraphs.extend(rng.sample(EPISODES, rng.randint(1, 2)))
    last = [ENDINGS] if rng.random() < 0.6 else [ENDINGS, plot.morals]
    paragraphs[-1] = (*paragraphs[-1], *last)
    return "\n\n".join(_paragraph(lines, rng, slots) for lines in paragraphs)


def _paragraph(lines: tuple[Line, ...], rng: random.Random, slots: dict[str, str]) -> str:
    sentences = (_fill(rng.choice(wordings), slots) for wordings in lines)
    return " ".join(sentence for sentence in sentences if sentence)


def _slots(rng: random.Random, hero: Hero, friend: Hero) -> dict[str, str]:
    place, place2 = rng.sample(PLACES, 2)
    is_she, friend_is_she = hero.pronoun == "she", friend.pronoun == "she"
    return {
        "kind": hero.kind,
        "name": hero.name,
        "he": hero.pronoun,
        "He": hero.pronoun.capitalize(),
        "him": "her" if is_she else "him",
        "his": "her" if is_she else "his",
        "His": "Her" if is_she else "His",
        "himself": "herself" if is_she else "himself",
        "friend": friend.name,
        "fkind": friend.kind,
        "fhe": friend.pronoun,
        "fhim": "her" if friend_is_she else "him",
        "trait": rng.choice(TRAITS),
        "home": rng.choice(HOMES),
        "weather": rng.choice(WEATHERS),
        "place": place,
        "place2": place2,
        "treasure": rng.choice(TREASURES),
        "food": rng.choice(FOODS),
        "skill": rng.choice(SKILLS),
        "building": rng.choice(BUILDINGS),
    }


def _fill(line: str, slots: dict[str, str]) -> str:
    """A wording with its slots filled; `a` becomes `an` where English wants it."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", line.format(**slots))
