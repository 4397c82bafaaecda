"""Which box gets a request. The weighing one is the product's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from llmserve.engines.remote.balancer import Balancer
from llmserve.engines.remote.prefix_memory import Digest, PrefixMemory


@dataclass(slots=True)
class Known:
    """What a front knows of a box: only what it has itself sent there."""

    running: int = 0
    prefixes: PrefixMemory = field(default_factory=PrefixMemory)


Routing = Callable[[Sequence[Known], Digest], int]


def _at_random(rng: random.Random) -> Routing:
    return lambda boxes, digest: rng.randrange(len(boxes))


def _round_robin(rng: random.Random) -> Routing:
    last = -1

    def choose(boxes: Sequence[Known], digest: Digest) -> int:
        nonlocal last
        last = (last + 1) % len(boxes)
        return last

    return choose


def _least_loaded(rng: random.Random) -> Routing:
    return _highest(rng, lambda box, digest: -box.running)


def _affine(rng: random.Random) -> Routing:
    return _highest(rng, lambda box, digest: box.prefixes.share(digest))


def _weighed(rng: random.Random) -> Routing:
    return Balancer(rng.random).best


def _highest(rng: random.Random, score: Callable[[Known, Digest], float]) -> Routing:
    """Of equals, any."""
    return lambda boxes, digest: max(
        range(len(boxes)), key=lambda index: (score(boxes[index], digest), rng.random())
    )


ROUTINGS: Final[dict[str, Callable[[random.Random], Routing]]] = {
    "random": _at_random,
    "round-robin": _round_robin,
    "least-loaded": _least_loaded,
    "affine": _affine,
    "weighed": _weighed,
}
"""`affine` goes by the cached share of the prompt alone, `weighed` by that less the load."""
