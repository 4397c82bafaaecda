"""When requests arrive: a Poisson process, the same one for both servers."""

from __future__ import annotations

import random


def poisson_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from the start, ascending, on average `rate` of them per second; at least one."""
    rng = random.Random(seed)
    arrivals = [rng.expovariate(rate)]
    while arrivals[-1] < seconds:
        arrivals.append(arrivals[-1] + rng.expovariate(rate))
    return arrivals[:-1] or [0.0]
