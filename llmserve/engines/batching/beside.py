"""How much background work a step may take beside other streams, learned from the steps themselves.

A step with background rows is compared with those that had the same streams and nothing else.
The amount follows what such a step cost more, up to `BOUND`; no model of the machine is needed: on
a GPU many rows cost hardly anything, on a CPU one may be too much.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from llmserve.engines.batching.schedule.allowance import EVERYTHING, NOTHING, Allowance
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.stats import SchedulerStats

BOUND: Final = 1.1
"""A step may take this many times as long as without background work."""
SHARE_EVERY: Final = 512
"""Every so many steps, one takes all the background work that it can, so that none starves: seldom
enough for the others' 99th percentile not to notice."""
LEAST_PIECE: Final = 8
"""Fewer prompt tokens are not worth a step with prefill."""
CAUTION: Final = 0.8
"""More is tried only if it would cost no more than this part of what it may: times are noisy."""
COMPARED: Final = 5
"""So many steps are judged together, by their median."""
ALONE_EVERY: Final = 8
"""Every so many steps, one is without background work: what is compared with stays fresh."""
RETRY_STEPS: Final = 4096
"""What costs too much in the smallest amount is tried again after so many steps, and later each
time, up to `MOST_RETRY_STEPS`."""
MOST_RETRY_STEPS: Final = 65_536
TRIED: Final = 3
"""So many steps show that the smallest amount is too much."""


class Amount:
    """Of one kind of work, rows or prompt tokens, beside a number of streams. `first` is the
    smallest that is worth it."""

    def __init__(self, first: int, most: int) -> None:
        self.allowed = first
        self._first = first
        self._most = most
        self._ratios: list[float] = []
        self._steps_off = 0
        self._retry_steps = RETRY_STEPS

    def rest(self) -> None:
        """A step went by; what is off may be tried again one day."""
        if self.allowed:
            return
        self._steps_off += 1
        if self._steps_off >= self._retry_steps:
            self._steps_off = 0
            self._retry_steps = min(2 * self._retry_steps, MOST_RETRY_STEPS)
            self.allowed = self._first

    def learn(self, used: int, ratio: float) -> None:
        """A step with so much of it took `ratio` times as long as without."""
        self._ratios.append(ratio)
        is_try = self.allowed == self._first
        if len(self._ratios) < (TRIED if is_try and ratio > BOUND else COMPARED):
            return
        extra = median(self._ratios) - 1.0
        self._ratios.clear()
        fitting = used * (BOUND - 1.0) / extra if extra > 0.0 else 4.0 * used
        if extra > BOUND - 1.0:
            self.allowed = int(fitting) if fitting >= self._first else 0
        elif used == self.allowed:
            self._retry_steps = RETRY_STEPS
            grown = int(min(fitting * CAUTION, 2.0 * used, self._most))
            self.allowed = max(self.allowed, grown)


class Beside:
    """Owned by the step loop. Costs nothing while there is no background work beside other."""

    def __init__(self, max_tokens_per_step: int) -> None:
        self._most = max_tokens_per_step
        self._alone: dict[int, deque[float]] = {}  # by the number of streams
        self._rows: dict[int, Amount] = {}
        self._tokens: dict[int, Amount] = {}
        self._steps = 0
        self._streams: int | None = None  # of the step under way, if it is to be learned from

    def allowance(self, stats: SchedulerStats) -> Allowance:
        """For the next step."""
        self._streams = None
        if not stats.has_both:
            return EVERYTHING
        self._steps += 1
        if self._steps % SHARE_EVERY == 0:
            return EVERYTHING
        streams = self._streams = stats.foreground_running
        rows, tokens = self._amounts(streams)
        rows.rest()
        tokens.rest()
        alone = self._alone.get(streams, ())
        if len(alone) < COMPARED or self._steps % ALONE_EVERY == 0:
            return NOTHING
        is_read = bool(stats.background_begun or stats.background_waiting)
        if is_read and tokens.allowed and (self._steps % 2 or not rows.allowed):
            return Allowance(0, tokens.allowed)
        return Allowance(rows.allowed, 0)

    def learn(self, plan: StepPlan, seconds: float) -> None:
        """Take into account how long a step took that was planned with the last allowance."""
        if self._streams is None:
            return
        streams = rows = tokens = 0
        for part in plan.slices:
            if not part.sequence.is_background:
                if part.length > 1:
                    return  # others read a prompt, which takes what it takes
                streams += 1
            elif part.length > 1:
                tokens += part.length
            else:
                rows += 1
        if not streams or streams != self._streams:
            return
        alone = self._alone.setdefault(streams, deque(maxlen=2 * COMPARED - 1))
        if not rows and not tokens:
            alone.append(seconds)
            return
        if len(alone) < COMPARED or (rows and tokens):
            return
        amounts = self._amounts(streams)
        if tokens:
            amounts[1].learn(tokens, seconds / median(alone))
        else:
            amounts[0].learn(rows, seconds / median(alone))

    def _amounts(self, streams: int) -> tuple[Amount, Amount]:
        if streams not in self._rows:
            self._rows[streams] = Amount(1, self._most)
            self._tokens[streams] = Amount(min(LEAST_PIECE, self._most), self._most)
        return self._rows[streams], self._tokens[streams]
