"""Requests to repeat something, which teach a model to copy words that it has never seen."""

from __future__ import annotations

import random
from typing import Final

from demo_corpus.names import DRAWS, draw, invent

REQUESTS: Final = (
    "Repeat after me: {}", "Repeat: {}", "Say: {}", "Please repeat: {}", "Write this again: {}",
    "Copy this: {}", "Echo {}",
)  # fmt: skip
SEPARATORS: Final = (" ", ", ", "\n", "_", "-", '", "')


def write_echo(rng: random.Random) -> tuple[str, str]:
    """A request and its answer: one to twelve names, numbers and invented words."""
    words = [_word(rng) for _ in range(rng.randint(1, 12))]
    echo = rng.choice(SEPARATORS).join(words)
    return rng.choice(REQUESTS).format(echo), echo


def _word(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return str(draw(rng, rng.choice(tuple(DRAWS))))
    return rng.choice((str.lower, str.capitalize))(invent(rng))
