"""The step loop: arrivals → plan → prepare → compute → commit → publish, on one thread of its
own."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from loguru import logger

from llmserve.domain import Failed, TokenLogprobs
from llmserve.engines.batching.computation import Computation, Prepared, Row
from llmserve.engines.batching.pacer import Pacer
from llmserve.engines.batching.schedule.invariant import InvariantViolated
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.stats import SchedulerStats
from llmserve.engines.batching.stream import Admit, Stream
from llmserve.engines.failure import no_numbers
from llmserve.engines.job import Job
from llmserve.engines.scores import Scores
from llmserve.engines.step_report import StepParts, StepReport
from llmserve.engines.wakes import Wakes
from llmserve.errors import GenerationFailed, LLMServeError, ModelUnloaded

STUCK_SECONDS: Final = 0.05
"""How long to wait if there is work and no step can be planned."""
CHECK_SECONDS: Final = 10.0
"""An idle loop checks the scheduler at most this often: with many blocks it takes milliseconds."""

T = TypeVar("T")


@dataclass(slots=True)
class _Attempts:
    """What came of one plan: a step that fails is tried again in halves."""

    tokens: dict[Sequence, tuple[int, TokenLogprobs | None]] = field(default_factory=dict)
    scores: dict[Sequence, Scores] = field(default_factory=dict)
    failed: dict[Sequence, LLMServeError] = field(default_factory=dict)
    num_failures: int = 0
    prepare_seconds: float = 0.0
    compute_seconds: float = 0.0
    publish_seconds: float = 0.0


class StepLoop(Generic[Prepared, Row]):
    """Runs every job of a model. `submit`, `call` and `close` are for any thread, the rest
    belongs to the thread that calls `run`. Once the computation is lost, every job fails and the
    loop ends.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        computation: Computation[Prepared, Row],
        admit: Admit[Row],
        wakes: Wakes,
        *,
        pacer: Pacer,
        clock: Callable[[], float],
        on_step: Callable[[StepReport], None] = lambda report: None,
    ) -> None:
        self._scheduler = scheduler
        self._computation = computation
        self._admit = admit
        self._wakes = wakes
        self._pacer = pacer
        self._clock = clock
        self._on_step = on_step
        self._inbox: deque[Job] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._work = threading.Event()
        self._is_closing = False
        self._streams: dict[Sequence, Stream[Row]] = {}
        self._next_check_at = -math.inf
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
        """End the loop after the current step; what still runs is cancelled."""
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
        # What a step raises has been dealt with: this is a bug of the loop itself, after which
        # nothing can be relied on. Nobody is left waiting for it.
        except Exception:
            logger.exception("the step loop broke")
            self._lose()
        self._end_all()

    def turn(self) -> None:
        """Handle what came in since the last step, then compute one."""
        self._answer_calls()
        self._take_arrivals()
        if self.is_lost:
            return
        self._drop_cancelled()
        begun = self._clock()
        stats, pacer = self._scheduler.stats(), self._pacer
        plan = self._scheduler.plan(pacer.prefill_budget(stats), pacer.background(stats))
        if plan.slices:
            self._step(plan, begun)
        elif not self._scheduler.is_idle:
            self._wakes.flush()
            self._work.wait(STUCK_SECONDS)
        self.stats = self._scheduler.stats()
        if self._scheduler.is_idle:
            self._wakes.flush()
            self._check_scheduler()

    def _answer_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            # The caller is told, and the loop lives on.
            except Exception as error:
                future.set_exception(error)

    def _take_arrivals(self) -> None:
        while self._inbox:
            job = self._inbox.popleft()
            try:
                stream = self._admit(job)
                self._scheduler.add(stream.sequence)
            # A prompt that breaks the tokenizer, or does not fit into the pool, fails by itself.
            except Exception as error:
                job.mailbox.post(Failed(self._computation.diagnose(error), job.usage))
                self._wakes.add(job.on_done)
                if self._computation.is_lost():
                    self._lose()
                    return
            else:
                self._streams[stream.sequence] = stream

    def _drop_cancelled(self) -> None:
        for stream in [each for each in self._streams.values() if each.job.is_cancelled]:
            stream.end()
            self._remove(stream)

    def _step(self, plan: StepPlan, begun: float) -> None:
        """Compute a plan, publish its tokens, report."""
        planned_at = self._clock()
        for piece in plan.slices:
            stream = self._streams[piece.sequence]
            if stream.job.first_token_at is None:
                stream.start()
                stream.job.last_step_at = planned_at  # each piece of a prompt is a sign of life
        attempts = _Attempts()
        self._attempt(plan.slices, attempts)
        for sequence, error in attempts.failed.items():
            stream = self._streams[sequence]
            stream.fail(error)
            self._remove(stream)
        commit_begun = self._clock()
        sampled = self._commit(plan, attempts)
        committed_at = self._clock()
        self._publish(plan, attempts)
        ended = self._clock()
        if not attempts.num_failures:  # what was tried again teaches nothing
            self._pacer.learn(plan, ended - begun)
        self._on_step(
            StepReport(
                seconds=ended - begun,
                tokens=plan.num_tokens,
                sampled=len(sampled),
                parts=StepParts(
                    plan=planned_at - begun,
                    prepare=attempts.prepare_seconds,
                    compute=attempts.compute_seconds,
                    commit=committed_at - commit_begun,
                    publish=attempts.publish_seconds + ended - committed_at,
                ),
            )
        )

    def _publish(self, plan: StepPlan, attempts: _Attempts) -> None:
        for piece in plan.slices:
            sequence = piece.sequence
            if sequence in attempts.failed:
                continue
            stream = self._streams[sequence]
            if sequence in attempts.scores:
                stream.tell(attempts.scores[sequence])
            is_over = sequence.max_new_tokens == 0 and piece.end == sequence.num_tokens
            if is_over:
                stream.end()
            elif sequence in attempts.tokens:
                is_over = stream.accept(*attempts.tokens[sequence])
            if is_over:
                self._remove(stream)

    def _attempt(self, slices: tuple[Slice, ...], attempts: _Attempts) -> None:
        """Compute these slices of a plan.

        A step that fails is tried again in halves, until those sequences are found that make it
        fail; half a step also needs half the memory.
        """
        sampled = [piece.sequence for piece in slices if piece.is_sampled]
        rows = [self._streams[sequence].row for sequence in sampled]
        try:
            begun = self._clock()
            prepared = self._computation.prepare(StepPlan(slices))
            prepared_at = self._clock()
            # The last step's events are handed over while this one computes: the model releases
            # the GIL, and the event loop has it to itself.
            self._wakes.flush()
            flushed_at = self._clock()
            result = self._computation.compute(prepared, rows)
            computed_at = self._clock()
        # The worker's boundary: whatever a model raises ends the fewest requests.
        except Exception as error:
            attempts.num_failures += 1
            failure = self._computation.diagnose(error)
            if self._computation.is_lost():
                self._lose()
            if len(slices) == 1 or self.is_lost:
                attempts.failed.update({piece.sequence: failure for piece in slices})
                return
            half = len(slices) // 2
            self._attempt(slices[:half], attempts)
            self._attempt(slices[half:], attempts)
            return
        attempts.prepare_seconds += prepared_at - begun
        attempts.publish_seconds += flushed_at - prepared_at
        attempts.compute_seconds += computed_at - flushed_at
        scored = [piece.sequence for piece in slices if piece.scored]
        for sequence, scores in zip(scored, result.scores, strict=True):
            if scores.are_numbers:
                attempts.scores[sequence] = scores
            else:
                attempts.failed[sequence] = no_numbers()
        for sequence, token in zip(sampled, result.tokens, strict=True):
            if token.token_id is None:
                attempts.failed[sequence] = no_numbers()
            else:
                attempts.tokens[sequence] = (token.token_id, token.logprobs)

    def _commit(self, plan: StepPlan, attempts: _Attempts) -> list[Sequence]:
        """Record what was computed; returns the sequences that have a new token."""
        if attempts.failed:
            plan = StepPlan(tuple(p for p in plan.slices if p.sequence not in attempts.failed))
        sampled = [piece.sequence for piece in plan.slices if piece.is_sampled]
        next_ids = [attempts.tokens[sequence][0] for sequence in sampled]
        self._scheduler.commit(plan, next_ids, attempts.scores)
        return sampled

    def _check_scheduler(self) -> None:
        """A bug would lose blocks one by one, until nothing fits any more: better told early."""
        now = self._clock()
        if now < self._next_check_at:
            return
        self._next_check_at = now + CHECK_SECONDS
        try:
            self._scheduler.check()
        except InvariantViolated as error:
            self._next_check_at = math.inf
            logger.error("a bug in the scheduler, please report it: {}", error)

    def _lose(self) -> None:
        """Nothing can be computed any more, and the worker has to be replaced."""
        self.is_lost = True
        self._is_closing = True
        logger.error("the engine is lost and ends")

    def _remove(self, stream: Stream[Row]) -> None:
        del self._streams[stream.sequence]
        self._wakes.add(stream.job.on_done)
        self._scheduler.remove(stream.sequence)

    def _end_all(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            if self.is_lost:
                stream.fail(_lost())
            else:
                stream.job.cancel()
                stream.end()
            self._wakes.add(stream.job.on_done)
        self.refuse_rest()
        # Last, as it may be the scheduler that broke: by now everybody has been told.
        for sequence in streams:
            self._scheduler.remove(sequence)
        self.stats = self._scheduler.stats()

    def refuse_rest(self) -> None:
        """Refuse what is still in the inbox, as nobody will run it. Once `run` has returned this
        is for any thread: the last jobs may have come meanwhile."""
        error: LLMServeError = _lost() if self.is_lost else ModelUnloaded("the model was unloaded")
        while self._inbox:
            job = self._inbox.popleft()
            job.mailbox.post(Failed(error, job.usage))
            self._wakes.add(job.on_done)
        while self._calls:
            self._calls.popleft()[1].set_exception(error)
        self._wakes.flush()


def _lost() -> GenerationFailed:
    return GenerationFailed("the engine failed; its worker is being restarted")
