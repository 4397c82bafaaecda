"""One generation between its ticket and its terminal event."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from llmserve.admission.gate import Gate
from llmserve.domain import (
    Caller,
    Cancelled,
    Delta,
    EngineKind,
    Event,
    Failed,
    Finish,
    FinishReason,
    GenerationRequest,
    Queued,
    Terminal,
    TokenLogprobs,
    Usage,
)
from llmserve.domain.cost import token_cost
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import Task
from llmserve.errors import LLMServeError, QueueFull, ShuttingDown, WaitTimeout
from llmserve.observability.context import current_trace
from llmserve.observability.metrics import Metrics
from llmserve.observability.tracing import Moments
from llmserve.registry.served import ServedModel
from llmserve.service.account import Account, Story
from llmserve.timer import Timer

EXPECTED_TOKENS: Final = 256
"""What an answer is taken to cost until it is over, or its `max_tokens` where that is less."""
QUEUE_UPDATE_SECONDS: Final = 2.0
DEADLINE_GRACE_SECONDS: Final = 0.25
"""How long after the deadline a silent worker (prefill cannot be interrupted) is not waited for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole generation, collected. `logprobs` is `None` where nobody asked for them."""

    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    logprobs: tuple[TokenLogprobs, ...] | None = None


class Generation:
    """A request that holds a ticket. Owned by the event loop.

    The place in the queue, the slot and the lease are given back as soon as the engine lets
    go of the job, whoever reads the events, and even if nobody ever does.
    """

    def __init__(
        self,
        request: GenerationRequest,
        served: ServedModel,
        task: Task,
        caller: Caller,
        metrics: Metrics,
        account: Account,
        *,
        release_lease: Callable[[], None],
        charge: Callable[[int], None],
        arrived_at: float,
        clock: Callable[[], float],
    ) -> None:
        self.id = request.id
        self.model = served.spec.name
        self.served = served
        self.prompt_tokens = len(task.prompt_ids)
        self._engine = served.loaded_engine
        # Kept for whoever reads late: the model may have been unloaded by then.
        self.tokenizer = self._engine.tokenizer
        self._caller = caller
        self._metrics = metrics
        self._account = account
        self._release_lease = release_lease
        self._charge = charge
        self._arrived_at = arrived_at
        self._clock = clock
        self._admitted_at: float | None = None
        self._cancelled_at: float | None = None
        self._is_done = False
        self._trace = current_trace.get()
        self._timers: list[Timer] = []
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._job = Job(
            task,
            self._mailbox,
            on_done=self._job_done,
            on_interval=self._on_interval,
        )

    def enter(self, gate: Gate, *, wait_timeout_seconds: float) -> None:
        """Take a place at the gate; the job starts when the turn comes.

        Raises:
            QueueFull: the gate has no place left.
            DeadlineUnreachable: the turn would come too late.
        """
        seconds = self._seconds_left()
        self._gate = gate
        self._ticket = gate.enter(
            self._on_admit,
            caller=self._caller.name,
            priority=self._caller.priority,
            cost=self._cost(min(self._job.task.max_tokens, EXPECTED_TOKENS)),
            patience_seconds=max(0.0, min(wait_timeout_seconds, seconds)),
            on_push_out=self._on_push_out,
        )
        if self._ticket.is_waiting:
            self._timers.append(Timer(wait_timeout_seconds, self._wait_is_over, self._clock))
        if math.isfinite(seconds):
            left = seconds + DEADLINE_GRACE_SECONDS
            self._timers.append(Timer(left, self._time_is_up, self._clock))
        self._show_gauges()

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._job.usage

    @property
    def silent_seconds(self) -> float:
        """Since the running job's last sign of life; 0 when it does not run."""
        at = self._job.last_step_at
        is_running = at is not None and not self._is_done and self.terminal is None
        return self._clock() - at if at is not None and is_running else 0.0

    @property
    def terminal(self) -> Terminal | None:
        """How it ended, once it has."""
        return self._mailbox.terminal

    async def events(self) -> AsyncGenerator[Event]:
        """Every event, up to and including the terminal one; read it once.

        While it waits, `Queued` is repeated every few seconds with the position of the moment.
        """
        if self._ticket.is_waiting and self.terminal is None:
            yield self._queued()
        while True:
            event = await self._next()
            yield event
            if isinstance(event, Terminal):
                return

    async def collect(self) -> Answer:
        """The whole answer.

        Raises:
            LLMServeError: the generation failed.
            asyncio.CancelledError: somebody cancelled it meanwhile.
        """
        parts: list[str] = []
        token_ids: list[int] = []
        logprobs: list[TokenLogprobs] = []
        is_told = self._job.task.sampling.logprobs is not None
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                match event:
                    case Delta(text, ids, told):
                        parts.append(text)
                        token_ids.extend(ids)
                        logprobs.extend(told)
                    case Failed(error, _):
                        raise error
                    case Cancelled():
                        raise asyncio.CancelledError
                    case Finish():
                        return Answer(
                            "".join(parts),
                            tuple(token_ids),
                            event,
                            tuple(logprobs) if is_told else None,
                        )
        raise AssertionError("a stream ended without a terminal event")

    def cancel(self) -> None:
        """End it now: nobody wants the rest."""
        self._end_early(Cancelled(self.usage))

    def fail(self, error: LLMServeError) -> None:
        """End it now with an error."""
        self._end_early(Failed(error, self.usage))

    def close(self) -> None:
        """The reader is gone: cancel what still runs and account for what was done."""
        self.cancel()
        for timer in self._timers:
            timer.cancel()
        self._measure()

    def _on_admit(self) -> None:
        now = self._clock()
        self._admitted_at = now
        self._metrics.queue_time.labels(self.model).observe(now - self._arrived_at)
        try:
            self._engine.start(self._job)
        except RuntimeError:  # of a pool that was shut down; the place must not be lost with it
            self._mailbox.post(Failed(ShuttingDown("the engine was closed"), self.usage))
            asyncio.get_running_loop().call_soon(self._job_done)
        self._show_gauges()

    def _on_interval(self, seconds: float) -> None:
        """A step made one more token; called in the worker thread."""
        self._metrics.inter_token_latency.labels(self.model).observe(seconds)
        if self._engine.info.kind is EngineKind.THREADED:  # whose steps are a token each
            self._metrics.iteration_tokens.labels(self.model).observe(1)

    def _job_done(self) -> None:
        """The engine let go: give everything back."""
        self._is_done = True
        metrics, job = self._metrics, self._job
        self._ticket.release(self._cost(job.completion_tokens))
        self._give_back()
        metrics.prompt_tokens.labels(self.model).inc(self.prompt_tokens)
        metrics.generation_tokens.labels(self.model).inc(job.completion_tokens)
        metrics.wasted_tokens.labels(self.model).inc(job.wasted_tokens)
        metrics.prefix_cache_queries.labels(self.model).inc(self.prompt_tokens)
        metrics.prefix_cache_hits.labels(self.model).inc(job.cached_tokens)
        if self._cancelled_at is not None:
            seconds = self._clock() - self._cancelled_at
            metrics.cancel_latency.labels(self.model).observe(seconds)

    def _wait_is_over(self) -> None:
        if self._ticket.is_waiting:
            waited = self._clock() - self._arrived_at
            self.fail(
                WaitTimeout(
                    f"no slot became free within {waited:.0f} s; try again later",
                    retry_after_seconds=self._ticket.eta_seconds,
                )
            )

    def _on_push_out(self, error: QueueFull) -> None:
        """The gate gave this place in the queue to a caller who has less."""
        if self._mailbox.post(Failed(error, self.usage)):
            self._job.cancel()
        self._give_back()

    def _time_is_up(self) -> None:
        self._end_early(Finish(FinishReason.TIMEOUT, self.usage))

    def _end_early(self, terminal: Terminal) -> None:
        if not self._mailbox.post(terminal):
            return
        self._job.cancel()
        if self._ticket.is_waiting:
            self._ticket.release()
            self._give_back()
        else:
            self._cancelled_at = self._clock()

    def _give_back(self) -> None:
        self._release_lease()
        self._charge(self._job.completion_tokens)
        self._show_gauges()

    def _seconds_left(self) -> float:
        deadline = self._job.task.deadline
        return math.inf if deadline is None else deadline - self._clock()

    def _cost(self, completion_tokens: int) -> float:
        """What the fair queue charges the caller."""
        return token_cost(self.prompt_tokens, completion_tokens)

    async def _next(self) -> Event:
        while self._ticket.is_waiting:
            try:
                return await asyncio.wait_for(self._mailbox.next(), QUEUE_UPDATE_SECONDS)
            except TimeoutError:
                if self._ticket.is_waiting:
                    return self._queued()
        return await self._mailbox.next()

    def _queued(self) -> Queued:
        return Queued(self._ticket.position, self._ticket.eta_seconds)

    def _show_gauges(self) -> None:
        self._metrics.running.labels(self.model).set(self._gate.running)
        self._metrics.waiting.labels(self.model).set(self._gate.waiting)

    def _measure(self) -> None:
        metrics, job, model, now = self._metrics, self._job, self.model, self._clock()
        metrics.e2e_latency.labels(model).observe(now - self._arrived_at)
        if job.first_token_at is not None and self._admitted_at is not None:
            metrics.time_to_first_token.labels(model).observe(job.first_token_at - self._arrived_at)
            metrics.prefill_time.labels(model).observe(job.first_token_at - self._admitted_at)
            assert job.last_step_at is not None
            metrics.decode_time.labels(model).observe(job.last_step_at - job.first_token_at)
        match self.terminal:
            case Finish(reason):
                metrics.finished.labels(model, reason.value).inc()
            case Failed(error):
                metrics.failed.labels(model, error.code).inc()
            case _:
                metrics.cancelled.labels(model).inc()
        self._account.finished(
            Story(
                request_id=self.id,
                model=model,
                caller=self._caller,
                terminal=self.terminal,
                usage=self.usage,
                moments=Moments(
                    arrived_at=self._arrived_at,
                    admitted_at=self._admitted_at,
                    first_token_at=job.first_token_at,
                    last_token_at=job.last_step_at if job.first_token_at is not None else None,
                    ended_at=now,
                ),
                trace=self._trace,
            )
        )
