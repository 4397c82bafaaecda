"""The step loop: arrivals → plan → compute → account → publish, on one thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from loguru import logger

from llmserve.domain import Failed, TokenLogprobs
from llmserve.engines.batching.pacer import Pacer
from llmserve.engines.batching.request import Admit, Request
from llmserve.engines.batching.sampled_token import SampledToken
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence as TokenSequence
from llmserve.engines.batching.schedule.stats import SchedulerStats
from llmserve.engines.batching.wakes import Wakes
from llmserve.engines.job import Job
from llmserve.engines.step_report import StepReport
from llmserve.errors import GenerationFailed, LLMServeError, ModelUnloaded

STUCK_SECONDS: Final = 0.05
"""How long to wait where there is work and no step can be planned."""

T = TypeVar("T")


Compute = Callable[[Any, Sequence[object]], Sequence[SampledToken]]
"""From a plan, or what `prepare` made of it, to the tokens of its sampled slices."""


class StepLoop:
    """Runs every job of a model. `submit`, `call` and `close` are for any thread, the rest
    belongs to the thread that calls `run`.

    `prepare` does what of a step wants the interpreter; `compute` should let go of it at once.
    `diagnose` turns what a step raised into our error and lets go of what it held. `is_fatal` is
    asked after every failure: if the device is lost, everything fails and the loop ends.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        compute: Compute,
        admit: Admit,
        wakes: Wakes,
        *,
        pacer: Pacer,
        clock: Callable[[], float],
        diagnose: Callable[[Exception], LLMServeError],
        is_fatal: Callable[[], bool] = lambda: False,
        prepare: Callable[[StepPlan], Any] = lambda plan: plan,
        on_step: Callable[[StepReport], None] = lambda report: None,
    ) -> None:
        self._scheduler = scheduler
        self._compute = compute
        self._admit = admit
        self._wakes = wakes
        self._pacer = pacer
        self._clock = clock
        self._diagnose = diagnose
        self._is_fatal = is_fatal
        self._prepare = prepare
        self._on_step = on_step
        self._inbox: deque[Job] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._work = threading.Event()
        self._is_closing = False
        self._num_failures = 0
        self._requests: dict[TokenSequence, Request] = {}
        self.stats: SchedulerStats = scheduler.stats()
        self.busy_since: float | None = None
        self.is_lost = False

    def submit(self, job: Job) -> None:
        """Run a job; its mailbox gets exactly one terminal event, then `on_done` is called."""
        self._inbox.append(job)
        self._work.set()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function between two steps."""
        future: Future[T] = Future()
        self._calls.append((function, future))
        self._work.set()
        return future

    def close(self) -> None:
        """End the loop after the step it is in; what still runs is cancelled."""
        self._is_closing = True
        self._work.set()

    def run(self) -> None:
        """The loop itself, until `close`."""
        try:
            while not self._is_closing:
                if self._scheduler.is_idle:
                    self.busy_since = None
                    self._work.wait()
                self._work.clear()
                self.busy_since = self._clock()
                self.turn()
        # What a step raises has been dealt with: this is a fault of the loop's own, after which
        # nothing can be relied on. Nobody is left waiting for it.
        except Exception:
            logger.exception("the step loop broke")
            self._lose()
        self._end_all()

    def turn(self) -> None:
        """What happened meanwhile, then one step."""
        self._answer_calls()
        self._take_arrivals()
        if self.is_lost:
            return
        self._drop_cancelled()
        begun = self._clock()
        plan = self._scheduler.plan(self._pacer.prefill_budget(self._scheduler.stats()))
        if plan.slices:
            self._num_failures = 0
            sampled = self._step(plan)
            seconds = self._clock() - begun
            if not self._num_failures:  # what was tried again teaches nothing
                self._pacer.learn(plan, seconds)
            self._on_step(StepReport(seconds, plan.num_tokens, sampled))
        elif not self._scheduler.is_idle:
            self._wakes.flush()
            self._work.wait(STUCK_SECONDS)
        self.stats = self._scheduler.stats()
        if self._scheduler.is_idle:
            self._wakes.flush()

    def _answer_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            # Whoever called is told, and the loop lives on.
            except Exception as error:
                future.set_exception(error)

    def _take_arrivals(self) -> None:
        while self._inbox:
            job = self._inbox.popleft()
            try:
                request = self._admit(job)
                task = job.task
                sequence = TokenSequence(
                    list(task.prompt_ids),
                    len(task.prompt_ids),
                    task.caller,
                    task.priority,
                    max_new_tokens=task.max_tokens,
                    salt=task.cache_salt.encode(),
                )
                self._scheduler.add(sequence)
            # A prompt that breaks the tokenizer, or that no pool has room for, is its own failure.
            except Exception as error:
                job.mailbox.post(Failed(self._diagnose(error), job.usage))
                self._wakes.add(job.on_done)
                if self._is_fatal():
                    self._lose()
                    return
            else:
                self._requests[sequence] = request

    def _drop_cancelled(self) -> None:
        gone = [s for s, request in self._requests.items() if request.job.is_cancelled]
        for sequence in gone:
            self._requests[sequence].end()
            self._let_go(sequence)

    def _step(self, plan: StepPlan) -> int:
        """Compute a plan and publish its tokens; returns how many."""
        for part in plan.slices:
            request = self._requests[part.sequence]
            request.start(part.sequence.num_cached)
            if request.job.first_token_at is None:
                request.job.last_step_at = self._clock()  # a prefill in pieces is a sign of life
        chosen, failed = self._attempt(plan.slices)
        for sequence, error in failed.items():
            self._requests[sequence].fail(error)
            self._let_go(sequence)
        done = StepPlan(tuple(part for part in plan.slices if part.sequence not in failed))
        sampled = [part.sequence for part in done.slices if part.is_sampled]
        tokens = [chosen[sequence] for sequence in sampled]
        self._scheduler.commit(done, [token_id for token_id, _ in tokens])
        for sequence, (token_id, logprobs) in zip(sampled, tokens, strict=True):
            if self._requests[sequence].accept(token_id, logprobs):
                self._let_go(sequence)
        return len(sampled)

    def _attempt(
        self, parts: Sequence[Slice]
    ) -> tuple[
        dict[TokenSequence, tuple[int, TokenLogprobs | None]],
        dict[TokenSequence, LLMServeError],
    ]:
        """Each sampled sequence's token, and the sequences that cannot be computed.

        A step that fails is tried again in halves, until those are found that make it fail; half
        a step also wants half the memory.
        """
        rows = [part for part in parts if part.is_sampled]
        sampling = [self._requests[part.sequence].sampling for part in rows]
        try:
            prepared = self._prepare(StepPlan(tuple(parts)))
            # What the last step made is told while this one computes: a forward lets go of the
            # interpreter, and the event loop has it to itself.
            self._wakes.flush()
            choices = self._compute(prepared, sampling)
        # The worker's boundary: whatever a model raises ends the fewest requests.
        except Exception as error:
            self._num_failures += 1
            failure = self._diagnose(error)
            if self._is_fatal():
                self._lose()
            if len(parts) == 1 or self.is_lost:
                return {}, {part.sequence: failure for part in parts}
            half = len(parts) // 2
            left, left_failed = self._attempt(parts[:half])
            right, right_failed = self._attempt(parts[half:])
            return left | right, left_failed | right_failed
        chosen: dict[TokenSequence, tuple[int, TokenLogprobs | None]] = {}
        failed: dict[TokenSequence, LLMServeError] = {}
        for part, choice in zip(rows, choices, strict=True):
            if choice.token_id is None:
                failed[part.sequence] = _no_numbers()
            else:
                chosen[part.sequence] = (choice.token_id, choice.logprobs)
        return chosen, failed

    def _lose(self) -> None:
        """Nothing can be computed any more, and the worker has to be replaced."""
        self.is_lost = True
        self._is_closing = True
        logger.error("the engine is lost and ends")

    def _let_go(self, sequence: TokenSequence) -> None:
        request = self._requests.pop(sequence)
        self._wakes.add(request.job.on_done)
        self._scheduler.remove(sequence)

    def _end_all(self) -> None:
        ended, self._requests = self._requests, {}
        for request in ended.values():
            if self.is_lost:
                request.fail(_lost())
            else:
                request.job.cancel()
                request.end()
            self._wakes.add(request.job.on_done)
        self.refuse_rest()
        # Last, as it may be the scheduler that broke: by now everybody has been told.
        for sequence in ended:
            self._scheduler.remove(sequence)
        self.stats = self._scheduler.stats()

    def refuse_rest(self) -> None:
        """Nobody will run what is still in the inbox. Once `run` has returned this is for any
        thread, as the last jobs may have come meanwhile."""
        error: LLMServeError = _lost() if self.is_lost else ModelUnloaded("the model was unloaded")
        while self._inbox:
            job = self._inbox.popleft()
            job.mailbox.post(Failed(error, job.usage))
            self._wakes.add(job.on_done)
        while self._calls:
            self._calls.popleft()[1].set_exception(error)
        self._wakes.flush()


def _no_numbers() -> GenerationFailed:
    return GenerationFailed("the model's logits are not numbers; the checkpoint may be damaged")


def _lost() -> GenerationFailed:
    return GenerationFailed("the engine failed; its worker is being restarted")
