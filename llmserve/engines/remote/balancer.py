"""Which upstream gets a request: the one that has most of its prompt cached, unless it is busy."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from llmserve.engines.remote.prefix_memory import Digest, PrefixMemory

IDLE_REQUESTS: Final = 4.0
"""Differences of a few requests do not matter: they are weighed as if so many more ran on each."""


class Candidate(Protocol):
    """What is weighed of an upstream."""

    @property
    def running(self) -> int:
        """Requests that it answers now."""
        ...

    @property
    def prefixes(self) -> PrefixMemory:
        """What it probably has cached."""
        ...


class Balancer:
    """Scores each upstream by the share of the prompt that it likely has cached, less its load
    relative to the fleet's mean.

    Affinity alone would pile all prompts with one beginning on one box; with the load in the score
    that box keeps about half as many again as the others, and the rest warms them. A slow box needs
    no other weight: its requests stay longer, so that more of them run there. Weighing them by the
    time to first tokens, too, drove conversations from one busy box to the next in simulations.
    """

    def __init__(self, randomness: Callable[[], float] = random.random) -> None:
        self._randomness = randomness

    def best(self, candidates: Sequence[Candidate], digest: Digest) -> int:
        """The index of the one with the highest score; ties are broken at random."""
        mean = sum(candidate.running for candidate in candidates) / len(candidates)
        scores = [
            candidate.prefixes.share(digest) - (candidate.running - mean) / (mean + IDLE_REQUESTS)
            for candidate in candidates
        ]
        return max(range(len(scores)), key=lambda i: (scores[i], self._randomness()))
