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
        self._decode_seconds: float | None = None
        self._seconds_per_token: float | None = None

    def prefill_budget(self, stats: SchedulerStats) -> int:
        """Prefill tokens for the next step.

        All that a step takes where nothing runs, or where many wait for the few that run: then
        the sooner they run together, the better for all.
        """
        decode, per_token = self._decode_seconds, self._seconds_per_token
        if not decode or not per_token or stats.waiting * 2 > stats.running:
            return self._most
        spare = (STRETCH - 1.0) * decode / per_token
        return int(max(LEAST_TOKENS, min(self._most, spare)))

    def learn(self, plan: StepPlan, seconds: float) -> None:
        """A step took so long."""
        decoding = sum(1 for part in plan.slices if part.length == 1)
        prefilling = plan.num_tokens - decoding
        if not prefilling:
            self._decode_seconds = _smoothed(self._decode_seconds, seconds)
        elif prefilling >= LEAST_TOKENS:
            base = self._decode_seconds if decoding and self._decode_seconds else 0.0
            cost = max(seconds - base, seconds / 4) / prefilling
            self._seconds_per_token = _smoothed(self._seconds_per_token, cost)


def _smoothed(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
