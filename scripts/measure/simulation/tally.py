"""What clients saw, counted while time passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from measure.headline.outcome import percentile
from measure.simulation.answer import Answer

RESOLUTION: Final = 1e-4
"""Of gaps between tokens, in seconds."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds, and shares of 1; infinite where there was nothing to measure.

    Attributes:
        requests: sent while it was counted; what follows is of these.
        answered: to their end.
        refused: the rest, by error code.
        tokens_per_second: that came while it was counted, of all answers.
        hit_share: of the answered prompts' tokens, found in prefix caches.
        imbalance: requests at the busiest box over the mean of all boxes.
    """

    requests: int
    answered: int
    refused: dict[str, int]
    ttft_p50: float
    ttft_p99: float
    itl_p50: float
    itl_p99: float
    tokens_per_second: float
    hit_share: float
    imbalance: float


class Tally:
    """Counts from `begin` to `end`: before, caches are cold and conversations young."""

    def __init__(
        self, num_boxes: int, begin: float, end: float, grain: int, clock: Callable[[], float]
    ) -> None:
        self._begin, self._end = begin, end
        self._grain = grain
        self._clock = clock
        self._is_open = False
        self._requests = self._answered = self._tokens = 0
        self._prompt_tokens = self._cached_tokens = 0
        self._refused: Counter[str] = Counter()
        self._first: list[float] = []
        self._gaps: Counter[int] = Counter()
        self._busy = [0.0] * num_boxes
        self.num_sent = self.num_ended = 0

    def open(self) -> None:
        """It begins."""
        self._is_open = True

    def close(self) -> None:
        """It ends; requests that were sent before go on."""
        self._is_open = False

    def sent(self, answer: Answer) -> None:
        """A client sends a request."""
        self.num_sent += 1
        answer.is_counted = self._is_open
        self._requests += self._is_open

    def first(self, answer: Answer, seconds: float) -> None:
        """The first token came, so long after the request was sent."""
        self._tokens += self._is_open
        if answer.is_counted:
            self._first.append(seconds)

    def token(self, answer: Answer, seconds: float) -> None:
        """Another came, so long after the one before."""
        self._tokens += self._is_open
        if answer.is_counted:
            self._gaps[round(seconds / RESOLUTION)] += 1

    def ended(self, answer: Answer, error: str | None, box: int | None) -> None:
        """It is over; `box` had it."""
        self.num_ended += 1
        if box is not None:
            begun, ended = max(self._begin, answer.sent_at), min(self._end, self._clock())
            self._busy[box] += max(0.0, ended - begun)
        if not answer.is_counted:
            return
        if error is not None:
            self._refused[error] += 1
            return
        self._answered += 1
        self._prompt_tokens += answer.prompt_tokens
        self._cached_tokens += answer.cached_tokens

    @property
    def figures(self) -> Figures:
        """All that was counted."""
        mean = sum(self._busy) / len(self._busy)
        return Figures(
            requests=self._requests,
            answered=self._answered,
            refused=dict(sorted(self._refused.items())),
            ttft_p50=percentile(self._first, 50),
            ttft_p99=percentile(self._first, 99),
            itl_p50=_counted_percentile(self._gaps, 50) * RESOLUTION / self._grain,
            itl_p99=_counted_percentile(self._gaps, 99) * RESOLUTION / self._grain,
            tokens_per_second=self._tokens * self._grain / (self._end - self._begin),
            hit_share=self._cached_tokens / max(1, self._prompt_tokens),
            imbalance=max(self._busy) / mean if mean else 1.0,
        )


def _counted_percentile(counts: Counter[int], percent: float) -> float:
    """Of values by how often each came (nearest rank)."""
    ordered = sorted(counts)
    ranks = list(accumulate(counts[value] for value in ordered))
    if not ranks:
        return float("inf")
    return next(
        v for v, rank in zip(ordered, ranks, strict=True) if rank * 100 >= ranks[-1] * percent
    )
