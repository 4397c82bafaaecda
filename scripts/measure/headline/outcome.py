"""What became of requests: one outcome each, and the figures of many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. Times are seconds from the start of the load.

    `scheduled` is when it had to be sent, `sent` when the client came to it; `error` is None
    for a right answer.
    """

    scheduled: float
    sent: float
    ended: float
    error: str | None = None

    @property
    def latency(self) -> float:
        """From when it was due, so that a server which holds the client up gains nothing."""
        return self.ended - self.scheduled

    @property
    def latency_if_answered(self) -> float:
        """The same, and infinite without an answer: an error is no fast answer."""
        return self.latency if self.error is None else math.inf


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a load. Latencies are seconds; infinite ones got no answer."""

    num_offered: int
    num_answered: int
    offered_per_second: float
    answered_per_second: float
    errors: dict[str, int]
    p50: float
    p99: float
    maximum: float
    p50_answered: float
    p99_answered: float
    p99_late_sends: float


def summarize(outcomes: Sequence[Outcome], seconds: float) -> Summary:
    """The figures of a load that was offered for so long.

    `answered_per_second` counts until the last request was answered or given up.

    Raises:
        ValueError: there is no outcome.
    """
    if not outcomes:
        raise ValueError("no request was sent; offer a higher rate or a longer load")
    answered = [o.latency for o in outcomes if o.error is None]
    every = [o.latency_if_answered for o in outcomes]
    return Summary(
        num_offered=len(outcomes),
        num_answered=len(answered),
        offered_per_second=len(outcomes) / seconds,
        answered_per_second=len(answered) / max(seconds, *(o.ended for o in outcomes)),
        errors=dict(Counter(o.error for o in outcomes if o.error is not None)),
        p50=percentile(every, 50),
        p99=percentile(every, 99),
        maximum=max(every),
        p50_answered=percentile(answered, 50),
        p99_answered=percentile(answered, 99),
        p99_late_sends=percentile([o.sent - o.scheduled for o in outcomes], 99),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed (nearest rank); infinite if none."""
    if not values:
        return math.inf
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]
