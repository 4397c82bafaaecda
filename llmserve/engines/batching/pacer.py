"""How many prompt tokens a step may take while streams run.

A prompt's tokens share steps with the decoding streams and delay each of their tokens. The pacer
learns what prefill adds to a step, and bounds it by a multiple of what a step with hardly any
prefill takes: a smaller step would not end much sooner, and a larger one would not cost much less
for each token.
"""

from __future__ import annotations

from typing import Final

from llmserve.engines.batching.beside import Beside
from llmserve.engines.batching.schedule.allowance import EVERYTHING, Allowance
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.stats import SchedulerStats
from llmserve.engines.batching.step_costs import MOST_GROWTH, DecodeCosts, PrefillCosts

STRETCH: Final = 2.2
"""A step with prefill may take this many times as long as one with a single prompt token. From 2 on
the prompt gets at least half of the tokens per second that unbounded steps would give it."""
LEAST_TOKENS: Final = 16
"""A prompt makes progress however slow the machine is."""
LEAST_TOKENS_ON_GPU: Final = 256
"""This many prompt tokens cost a GPU hardly more time than it takes to read the weights for one."""
PROBE_EVERY: Final = 16
"""Every so many steps, one takes half as much prefill: only different sizes show what a token
costs."""


class Pacer:
    """Owned by the step loop. Steps with up to `replayed_tokens` of prompts may be replayed from a
    CUDA graph."""

    def __init__(
        self,
        max_tokens_per_step: int,
        least_tokens: int = LEAST_TOKENS,
        replayed_tokens: int = 0,
    ) -> None:
        self._most = max_tokens_per_step
        self._least = min(least_tokens, max_tokens_per_step)
        self._decode = DecodeCosts()
        self._prefill = PrefillCosts()
        self._prefill_steps = 0
        self._replayed_tokens = replayed_tokens
        self._replayed, self._launched = PrefillCosts(), PrefillCosts()
        self._beside = Beside(max_tokens_per_step)
        self._allowance = EVERYTHING

    def background(self, stats: SchedulerStats) -> Allowance:
        """How much background work the next step may take."""
        self._allowance = self._beside.allowance(stats)
        return self._allowance

    def prefill_budget(self, stats: SchedulerStats) -> int:
        """Prefill tokens for the next step.

        All that a step can take if nothing runs, or if many wait beside a few that run: then the
        sooner all run together, the better for everyone. Background work counts only where there is
        nothing else.
        """
        running, waiting = stats.running, stats.waiting
        if stats.has_both:
            running, waiting = stats.foreground_running, stats.foreground_waiting
        decode, prefill = self._decode.seconds(running), self._prefill.estimate
        if decode is None or prefill is None or waiting * 2 > running:
            return self._most
        spare = (STRETCH - 1.0) * (decode + prefill.fixed)
        if spare >= prefill.per_token * self._most:
            budget = self._most
        else:
            budget = max(self._least, int(spare / prefill.per_token))
        if budget > self._replayed_tokens and self._is_replaying_cheaper(budget):
            budget = self._replayed_tokens
        is_probe = self._prefill_steps % PROBE_EVERY == PROBE_EVERY - 1
        return max(1, budget // 2) if is_probe else budget

    def learn(self, plan: StepPlan, seconds: float) -> None:
        """Take into account how long a step took."""
        self._beside.learn(plan, seconds)
        streams = sum(1 for part in plan.slices if part.length == 1)
        prompt_tokens = plan.num_tokens - streams
        if not prompt_tokens:
            self._decode.learn(streams, seconds)
            return
        if 0 < self._allowance.tokens < self._most:
            return  # a few tokens do not show what a prompt costs
        self._prefill_steps += 1
        decode, known = self._decode.seconds(streams) or 0.0, self._prefill.estimate
        if known is not None and decode:
            seconds = min(seconds, MOST_GROWTH * (decode + known.of(prompt_tokens)))
        # Also without streams: what any step costs is not booked on the prompt.
        added = max(0.0, seconds - decode)
        self._prefill.learn(prompt_tokens, added)
        is_small = prompt_tokens <= self._replayed_tokens
        (self._replayed if is_small else self._launched).learn(prompt_tokens, added)

    def _is_replaying_cheaper(self, budget: int) -> bool:
        """Whether a prompt's tokens cost less in the largest step that may be replayed than in one
        of so many, which never is."""
        replayed, launched = self._replayed.estimate, self._launched.estimate
        if not self._replayed_tokens or replayed is None:
            return False
        if launched is None:
            return True
        small, large = replayed.of(self._replayed_tokens), launched.of(budget)
        return small / self._replayed_tokens <= large / budget
