"""Which upstream gets a request: the one that has most of its prompt cached, unless it is busy."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from llmserve.engines.remote.prefix_memory import Digest, PrefixMemory

IDLE_REQUESTS: Final = 4.0
"""Differences of a few requests do not matter: they are weighed as if so many more ran on each."""
MOST_SLOWNESS: Final = 2.0
"""A slow upstream's load counts up to so many times, a fast one's as little as its inverse."""


class Candidate(Protocol):
    """What is weighed of an upstream."""

    @property
    def running(self) -> int:
        """Requests that it answers now."""
        ...

    @property
    def first_token_seconds(self) -> float | None:
        """About how long its answers take to begin."""
        ...

    @property
    def prefixes(self) -> PrefixMemory:
        """What it probably has cached."""
        ...


class Balancer:
    """Scores each upstream by the share of the prompt that it likely has cached, less its load
    relative to the fleet's mean.

    Affinity alone would pile all prompts with one beginning on one box; with the load in the score
    that box keeps about half as many again as the others, and the rest warms them.
    """

    def __init__(self, randomness: Callable[[], float] = random.random) -> None:
        self._randomness = randomness

    def best(self, candidates: Sequence[Candidate], digest: Digest) -> int:
        """The index of the one with the highest score; ties are broken at random."""
        loads = _loads(candidates)
        mean = sum(loads) / len(loads)
        scores = [
            candidate.prefixes.share(digest) - (load - mean) / (mean + IDLE_REQUESTS)
            for candidate, load in zip(candidates, loads, strict=True)
        ]
        return max(range(len(scores)), key=lambda i: (scores[i], self._randomness()))


def _loads(candidates: Collection[Candidate]) -> list[float]:
    """Their requests, weighed by how slow they are."""
    known = [c.first_token_seconds for c in candidates if c.first_token_seconds is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [c.running * _slowness(c.first_token_seconds, mean) for c in candidates]


def _slowness(seconds: float | None, mean: float) -> float:
    if seconds is None or mean <= 0.0:
        return 1.0
    return min(MOST_SLOWNESS, max(1.0 / MOST_SLOWNESS, seconds / mean))
