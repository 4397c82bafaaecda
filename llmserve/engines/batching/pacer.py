"""How much of a step may go to prefill while streams run.

A prompt's tokens ride along with the decoding streams and make each of their tokens later. The
pacer learns what a step costs with and without them, and gives prefill what keeps a step under a
multiple of a plain one.
"""

from __future__ import annotations

from typing import Final

from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.stats import SchedulerStats

STRETCH: Final = 2.2
"""A step with prefill may take so many times a step without; what the streams notice."""
LEAST_TOKENS: Final = 16
"""Prefill goes on however slow the machine is."""
SMOOTHING: Final = 0.2


class Pacer:
    """Owned by the step loop. Times are exponential averages in seconds."""

    def __init__(self, max_tokens_per_step: int) -> None:
        self._most = max_tokens_per_step
        self._plain = PlainSteps()
        self._seconds_per_token: float | None = None

    def prefill_budget(self, stats: SchedulerStats) -> int:
        """Prefill tokens for the next step.

        All that a step takes where nothing runs, or where many wait for the few that run: then
        the sooner they run together, the better for all.
        """
        plain, per_token = self._plain.seconds(stats.running), self._seconds_per_token
        if not plain or not per_token or stats.waiting * 2 > stats.running:
            return self._most
        spare = (STRETCH - 1.0) * plain / per_token
        return int(max(LEAST_TOKENS, min(self._most, spare)))

    def learn(self, plan: StepPlan, seconds: float) -> None:
        """A step took so long."""
        decoding = sum(1 for part in plan.slices if part.length == 1)
        prefilling = plan.num_tokens - decoding
        if not prefilling:
            self._plain.learn(decoding, seconds)
        elif prefilling >= LEAST_TOKENS:
            # Also without streams: what every step costs is not the prompt's.
            base = self._plain.seconds(decoding) or 0.0
            cost = max(seconds - base, seconds / 4) / prefilling
            self._seconds_per_token = _smoothed(self._seconds_per_token, cost)


class PlainSteps:
    """What a step without prefill takes, by how many streams it serves, in powers of two."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, streams: int, seconds: float) -> None:
        """A step took so long."""
        size = streams.bit_length()
        self._seconds[size] = _smoothed(self._seconds.get(size), seconds)

    def seconds(self, streams: int) -> float | None:
        """With about so many streams; `None` before the first step."""
        size = streams.bit_length()
        known = min(self._seconds, key=lambda other: abs(other - size), default=None)
        return None if known is None else self._seconds[known]


def _smoothed(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
