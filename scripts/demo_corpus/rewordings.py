"""Other ways to ask a question: patterns of rewordings.toml, drawn from or recognized."""

from __future__ import annotations

import itertools
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

REWORDINGS_FILE: Final = Path(__file__).with_name("rewordings.toml")
CHOICE: Final = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text with choices: `[a|b] c` is "a c" or "b c"."""

    parts: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """What stands outside of brackets is a choice of one."""
        pieces = CHOICE.split(text)
        is_choice = itertools.cycle((False, True))
        parts = (
            tuple(p.split("|")) if c else (p,) for p, c in zip(pieces, is_choice, strict=False)
        )
        return cls(tuple(parts))

    def draw(self, rng: random.Random) -> str:
        """One of the texts."""
        return _tidy("".join(rng.choice(part) for part in self.parts))

    @property
    def expression(self) -> str:
        """A regular expression for all of them, spaces left out."""
        choices = ("|".join(re.escape(_bare(text)) for text in part) for part in self.parts)
        return "".join(f"(?:{choice})" for choice in choices)


@dataclass(frozen=True, slots=True)
class Rewordings:
    """The patterns of one question: sentences, and frames with what fills them."""

    sentences: tuple[Pattern, ...]
    framed: tuple[tuple[tuple[Pattern, ...], tuple[Pattern, ...]], ...]

    def draw(self, rng: random.Random) -> str:
        """One sentence."""
        kind = rng.randrange(len(self.framed) + bool(self.sentences))
        if kind == len(self.framed):
            return rng.choice(self.sentences).draw(rng)
        frames, fillings = self.framed[kind]
        frame, filling = rng.choice(frames).draw(rng), rng.choice(fillings).draw(rng)
        text = frame.replace("{}", filling)
        return text[0].upper() + text[1:]

    def has(self, question: str) -> bool:
        """Whether a question could be drawn; case, spaces and punctuation do not count."""
        bare = _bare(question)
        expressions = [pattern.expression for pattern in self.sentences]
        for frames, fillings in self.framed:
            filling = "|".join(pattern.expression for pattern in fillings)
            expressions += (_framed(frame, filling) for frame in frames)
        return any(re.fullmatch(expression, bare) for expression in expressions)


def read_rewordings() -> dict[str, Rewordings]:
    """By the id of the question in faq.toml."""
    document = tomllib.loads(REWORDINGS_FILE.read_text(encoding="utf-8"))
    frames = {kind: _parsed(texts) for kind, texts in document["frames"].items()}
    return {name: _rewordings(topic, frames) for name, topic in document["topics"].items()}


def _rewordings(topic: Mapping[str, Any], frames: Mapping[str, tuple[Pattern, ...]]) -> Rewordings:
    framed = ((frames[kind], _parsed(topic[kind])) for kind in frames if kind in topic)
    return Rewordings(_parsed(topic.get("say", ())), tuple(framed))


def _parsed(texts: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(Pattern.parse(text) for text in texts)


def _framed(frame: Pattern, filling: str) -> str:
    before, after = frame.expression.split(r"\{\}")
    return f"{before}(?:{filling}){after}"


def _bare(text: str) -> str:
    """Letters, digits and braces, in lower case."""
    return re.sub(r"[^a-z0-9{}]", "", text.lower())


def _tidy(text: str) -> str:
    """Without the spaces that an empty choice leaves."""
    return re.sub(r"\s+([?.,;])", r"\1", " ".join(text.split()))
