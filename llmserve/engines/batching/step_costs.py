"""What steps cost on this machine, learned from the steps themselves. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SMOOTHING: Final = 0.2
"""Weight of the newest decode step in its average."""
FORGETTING: Final = 0.9
"""By which each prefill step multiplies the weight of earlier ones: about the last ten count."""
MOST_GROWTH: Final = 2.0
"""A step counts as at most this many times as long as expected: it may have waited for another
model's load, a compiler or the garbage collector."""
LEAST_SPREAD: Final = 0.05
"""Sizes closer together than this share of their mean do not show what one more token costs."""


@dataclass(frozen=True, slots=True)
class Affine:
    """`fixed + per_token × tokens`, neither of them negative."""

    fixed: float
    per_token: float

    def of(self, tokens: int) -> float:
        """Seconds for so many tokens."""
        return self.fixed + self.per_token * tokens


class DecodeCosts:
    """How long a step without prefill takes, by the number of streams in powers of two. On a GPU
    such steps replay CUDA graphs."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, streams: int, seconds: float) -> None:
        """A step took so many seconds."""
        size = streams.bit_length()
        old = self._seconds.get(size)
        if old is not None:
            # While every step has prefill, nothing corrects what one odd step has taught.
            seconds = old + SMOOTHING * (min(seconds, MOST_GROWTH * old) - old)
        self._seconds[size] = seconds

    def seconds(self, streams: int) -> float | None:
        """Of a step with about so many streams; `None` before the first step."""
        size = streams.bit_length()
        known = min(self._seconds, key=lambda other: abs(other - size), default=None)
        return None if known is None else self._seconds[known]


class PrefillCosts:
    """What prefill adds to the time of a step.

    An affine function of the number of prompt tokens, because such a step may cost something before
    the first of them: on a GPU it is launched kernel by kernel. Weighted least squares over the
    last steps.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._tokens = 0.0
        self._seconds = 0.0
        self._tokens_squared = 0.0
        self._product = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """A step took so many seconds longer for so many prompt tokens."""
        self._weight = self._weight * FORGETTING + 1.0
        self._tokens = self._tokens * FORGETTING + tokens
        self._seconds = self._seconds * FORGETTING + seconds
        self._tokens_squared = self._tokens_squared * FORGETTING + tokens * tokens
        self._product = self._product * FORGETTING + tokens * seconds

    @property
    def estimate(self) -> Affine | None:
        """`None` before the first step. Steps of a single size do not show how much is fixed; then
        all of their time is booked on the tokens."""
        if not self._weight:
            return None
        mean_tokens, mean_seconds = self._tokens / self._weight, self._seconds / self._weight
        variance = self._tokens_squared / self._weight - mean_tokens**2
        if variance <= (LEAST_SPREAD * mean_tokens) ** 2:
            return Affine(0.0, mean_seconds / mean_tokens)
        slope = (self._product / self._weight - mean_tokens * mean_seconds) / variance
        if slope <= 0.0:
            return Affine(mean_seconds, 0.0)
        fixed = mean_seconds - slope * mean_tokens
        if fixed < 0.0:
            return Affine(0.0, self._product / self._tokens_squared)
        return Affine(fixed, slope)
