"""One box: the product's gate, scheduler and pacer, and a step that takes the time that was
measured."""

from __future__ import annotations

import random
from functools import partial
from typing import Final

from llmserve.admission.gate import Gate
from llmserve.domain.cost import token_cost
from llmserve.engines.batching.pacer import Pacer
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.errors import DeadlineUnreachable, PromptTooLong, QueueFull, WaitTimeout
from measure.simulation.answer import Answer
from measure.simulation.box_limits import BoxLimits
from measure.simulation.profile import Profile, StepCosts
from measure.simulation.timeline import Timeline

BLOCK_SIZE: Final = 16
STUCK_SECONDS: Final = 0.05
"""As the step loop waits if there is work and no step can be planned."""


class Box:
    """With a `grain` over 1 everything is counted in so many tokens, and a step stands for as many
    steps: each has the same rows, and its part of the prompts' tokens."""

    def __init__(
        self,
        profile: Profile,
        limits: BoxLimits,
        timeline: Timeline,
        rng: random.Random,
        grain: int = 1,
    ) -> None:
        self._grain = grain
        self._limits = limits
        self._timeline = timeline
        self._costs = StepCosts(profile)
        most, running = profile.max_tokens_per_step, limits.max_running or profile.max_running
        self._most_tokens = profile.blocks * BLOCK_SIZE
        self._gate = Gate(running, limits.max_waiting, timeline, rng)
        self._scheduler = Scheduler(
            num_blocks=profile.blocks,
            block_size=BLOCK_SIZE // grain,
            max_tokens_per_step=max(most, running),
            max_sequences=running,
        )
        self._pacer = Pacer(most, profile.least_prompt_tokens, profile.replayed_tokens)
        self._answers: dict[Sequence, Answer] = {}
        self._is_stepping = False

    def send(self, answer: Answer) -> None:
        """Take a request, or end it at once with the error with which it is refused."""
        request = answer.request
        if (len(answer.ids) + 1) * self._grain > self._most_tokens:
            answer.end(PromptTooLong.code)
            return
        expected = min(request.answer_tokens, self._limits.expected_tokens)
        try:
            answer.ticket = self._gate.enter(
                partial(self._admit, answer),
                caller=request.caller,
                cost=token_cost(answer.prompt_tokens, expected),
                patience_seconds=self._limits.wait_timeout_seconds,
                on_push_out=lambda error: answer.end(error.code),
            )
        except (QueueFull, DeadlineUnreachable) as error:
            answer.end(error.code)
            return
        if answer.ticket.is_waiting:
            self._timeline.after(self._limits.wait_timeout_seconds, partial(self._give_up, answer))

    def check(self) -> None:
        """Look for what was lost or counted twice, while nothing runs.

        Raises:
            InvariantViolated: the scheduler's data contradict each other.
        """
        assert self._gate.running + self._gate.waiting == 0, "a place was not given back"
        assert self._scheduler.is_idle, "a sequence was forgotten"
        self._scheduler.check()

    def _give_up(self, answer: Answer) -> None:
        ticket = answer.ticket
        if not answer.is_over and ticket is not None and ticket.is_waiting:
            ticket.release()
            answer.end(WaitTimeout.code)

    def _admit(self, answer: Answer) -> None:
        self._answers[answer.sequence] = answer
        self._scheduler.add(answer.sequence)
        if not self._is_stepping:
            self._is_stepping = True
            self._timeline.after(0.0, self._step)

    def _step(self) -> None:
        plan = self._scheduler.plan(self._pacer.prefill_budget(self._scheduler.stats()))
        if plan.slices:
            seconds = self._costs.of(plan, self._grain)
            self._timeline.after(seconds * self._grain, partial(self._computed, plan, seconds))
        elif self._scheduler.is_idle:
            self._is_stepping = False
        else:
            self._timeline.after(STUCK_SECONDS, self._step)

    def _computed(self, plan: StepPlan, seconds: float) -> None:
        now, answers = self._timeline.now, self._answers
        sampled = [answers[part.sequence] for part in plan.slices if part.is_sampled]
        next_ids = [answer.ids[len(answer.sequence.token_ids)] for answer in sampled]
        self._scheduler.commit(plan, next_ids)
        self._pacer.learn(plan, seconds)
        for answer in sampled:
            answer.token(now)
            if answer.is_complete:
                self._end(answer)
        self._step()

    def _end(self, answer: Answer) -> None:
        del self._answers[answer.sequence]
        self._scheduler.remove(answer.sequence)
        assert answer.ticket is not None, "it was admitted"
        answer.ticket.release(token_cost(answer.prompt_tokens, answer.request.answer_tokens))
        answer.end()
