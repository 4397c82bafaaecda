"""Documents in the order of their scores, the best first."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.domain import EncodingAnswer


@dataclass(frozen=True, slots=True)
class Ranked:
    """One of them; `index` is its place in the request."""

    index: int
    score: float


def ranked(answer: EncodingAnswer, most: int | None = None) -> list[Ranked]:
    """At most so many. Those of equal scores keep the order of the request."""
    scored = [Ranked(index, vector[0]) for index, vector in enumerate(answer.vectors)]
    scored.sort(key=lambda one: -one.score)
    return scored[:most]
