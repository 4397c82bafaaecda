"""One generation between its ticket and its terminal event."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from llmserve.admission.gate import Gate
from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    GenerationRequest,
    Queued,
    Terminal,
    Usage,
)
from llmserve.engines.job import Job, Task
from llmserve.engines.mailbox import Mailbox
from llmserve.errors import LLMServeError, ShuttingDown, WaitTimeout
from llmserve.observability.metrics import Metrics
from llmserve.registry.served import ServedModel

QUEUE_UPDATE_SECONDS: Final = 2.0
DEADLINE_GRACE_SECONDS: Final = 0.25
"""How long after the deadline a silent worker (prefill cannot be interrupted) is not waited for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole generation, collected."""

    text: str
    token_ids: tuple[int, ...]
    finish: Finish


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
        metrics: Metrics,
        release_lease: Callable[[], None],
        *,
        arrived_at: float,
    ) -> None:
        self.id = request.id
        self.model = served.spec.name
        self.prompt_tokens = len(task.prompt_ids)
        self._served = served
        self._metrics = metrics
        self._release_lease = release_lease
        self._arrived_at = arrived_at
        self._admitted_at: float | None = None
        self._cancelled_at: float | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._job = Job(
            task,
            self._mailbox,
            on_done=self._job_done,
            on_interval=metrics.inter_token_latency.labels(self.model).observe,
        )

    def enter(self, gate: Gate, *, wait_timeout_seconds: float) -> None:
        """Take a place at the gate; the job starts when the turn comes.

        Raises:
            QueueFull: the gate has no place left.
        """
        loop = asyncio.get_running_loop()
        self._gate = gate
        self._ticket = gate.enter(self._on_admit)
        if self._ticket.is_waiting:
            self._timers.append(loop.call_later(wait_timeout_seconds, self._wait_is_over))
        deadline = self._job.task.deadline
        if deadline is not None:
            seconds = deadline - time.monotonic() + DEADLINE_GRACE_SECONDS
            self._timers.append(loop.call_later(seconds, self._time_is_up))
        self._show_gauges()

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(self.prompt_tokens, self._job.completion_tokens)

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
            if isinstance(event, Finish | Failed | Cancelled):
                return

    async def collect(self) -> Answer:
        """The whole answer.

        Raises:
            LLMServeError: the generation failed.
            asyncio.CancelledError: somebody cancelled it meanwhile.
        """
        parts: list[str] = []
        token_ids: list[int] = []
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                match event:
                    case Delta(text, ids):
                        parts.append(text)
                        token_ids.extend(ids)
                    case Failed(error, _):
                        raise error
                    case Cancelled():
                        raise asyncio.CancelledError
                    case Finish():
                        return Answer("".join(parts), tuple(token_ids), event)
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
        now = time.monotonic()
        self._admitted_at = now
        self._metrics.queue_time.labels(self.model).observe(now - self._arrived_at)
        try:
            self._served.engine.start(self._job)
        except RuntimeError:  # of a pool that was shut down; the place must not be lost with it
            self._mailbox.post(Failed(ShuttingDown("the engine was closed"), self.usage))
            asyncio.get_running_loop().call_soon(self._job_done)
        self._show_gauges()

    def _job_done(self) -> None:
        """The engine let go: give slot and lease back."""
        self._ticket.release()
        self._release_lease()
        self._show_gauges()
        metrics, job = self._metrics, self._job
        metrics.prompt_tokens.labels(self.model).inc(self.prompt_tokens)
        metrics.generation_tokens.labels(self.model).inc(job.completion_tokens)
        metrics.wasted_tokens.labels(self.model).inc(job.wasted_tokens)
        if self._cancelled_at is not None:
            seconds = time.monotonic() - self._cancelled_at
            metrics.cancel_latency.labels(self.model).observe(seconds)

    def _wait_is_over(self) -> None:
        if self._ticket.is_waiting:
            waited = time.monotonic() - self._arrived_at
            self.fail(
                WaitTimeout(
                    f"no slot became free within {waited:.0f} s; try again later",
                    retry_after_seconds=self._ticket.eta_seconds,
                )
            )

    def _time_is_up(self) -> None:
        self._end_early(Finish(FinishReason.TIMEOUT, self.usage))

    def _end_early(self, terminal: Terminal) -> None:
        if not self._mailbox.post(terminal):
            return
        self._job.cancel()
        if self._ticket.is_waiting:
            self._ticket.release()
            self._release_lease()
            self._show_gauges()
        else:
            self._cancelled_at = time.monotonic()

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
        metrics, job, model = self._metrics, self._job, self.model
        metrics.e2e_latency.labels(model).observe(time.monotonic() - self._arrived_at)
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
