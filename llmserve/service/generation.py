"""One generation between its admission and its terminal event."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    Terminal,
    Usage,
)
from llmserve.domain.cost import token_cost
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import Task, TokenTask
from llmserve.errors import LLMServeError, QueueFull, ShuttingDown, WaitTimeout
from llmserve.observability.tracing import Moments
from llmserve.registry.resolved import Resolved
from llmserve.service.answer import Answer, Collector
from llmserve.service.place import Place
from llmserve.service.record import RequestRecord
from llmserve.text.spelling import Spelling, shown
from llmserve.timer import Timer, awake_timeout

EXPECTED_TOKENS: Final = 256
"""What an answer is taken to cost until it is over, or its `max_tokens` where that is less."""
QUEUE_UPDATE_SECONDS: Final = 2.0
DEADLINE_GRACE_SECONDS: Final = 0.25
"""How long after the deadline a silent worker (prefill cannot be interrupted) is not waited for."""


class Generation:
    """A task that holds a place. Owned by the event loop.

    The place is given back as soon as the engine is done with the job, whether or not the events
    are read.
    """

    def __init__(
        self,
        resolved: Resolved,
        task: Task,
        place: Place,
        record: RequestRecord,
        clock: Callable[[], float],
    ) -> None:
        self.id = task.request_id
        self.model = resolved.name
        self.served = resolved.model
        self.adapter = resolved.adapter
        # A request that is to be told of them is refused where the tokenizer is elsewhere.
        self.prompt_ids = task.prompt_ids if isinstance(task, TokenTask) else ()
        self.sampling = task.sampling
        self._engine = resolved.model.generator
        # Kept, because the model may be unloaded before the last event is read.
        self.fingerprint = self._engine.info.fingerprint
        self.decode = self._engine.decode
        self._spelling = self._engine.spelling
        self._skips_special_tokens = task.sampling.skips_special_tokens
        self._place = place
        self._record = record
        self._clock = clock
        self._is_done = False
        self._timers: list[Timer] = []
        self._begun = asyncio.Event()
        self._parser = task.new_parser()
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._job = Job(
            task,
            self._mailbox,
            on_done=self._job_done,
            on_interval=record.interval,
            on_started=self._begun.set,
        )

    def enter(self, wait_timeout_seconds: float) -> None:
        """Wait for a turn; the job starts when it comes. Background work waits up to its deadline.

        Raises:
            QueueFull: the gate has no place left.
            DeadlineUnreachable: the turn would come too late.
        """
        seconds = self._seconds_left()
        self._place.enter(
            self._on_admit,
            self._on_push_out,
            cost=self._cost(min(self._job.task.max_tokens, EXPECTED_TOKENS)),
            patience_seconds=max(0.0, min(wait_timeout_seconds, seconds)),
            on_displace=self.fail,
        )
        if self._place.is_waiting and not self.is_background:
            self._timers.append(Timer(wait_timeout_seconds, self._wait_is_over, self._clock))
        if math.isfinite(seconds):
            left = seconds + DEADLINE_GRACE_SECONDS
            self._timers.append(Timer(left, self._time_is_up, self._clock))

    @property
    def is_background(self) -> bool:
        """Whether it is background work, which may be paused, and ended so that others run."""
        return self._job.task.is_background

    @property
    def prompt_tokens(self) -> int:
        """How many the prompt has, as far as is known."""
        return self.usage.prompt_tokens

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._job.usage

    def spelling(self, token_id: int) -> Spelling:
        """How a token of the answer is written by itself."""
        known = self._spelling(token_id)
        return known if self._skips_special_tokens else shown(known)

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

    @property
    def moments(self) -> Moments:
        """When it came, got its turn, and made its first and its last token until now."""
        return self._record.moments(*self._token_times)

    async def events(self) -> AsyncGenerator[Event]:
        """Every event, up to and including the terminal one; read it once.

        While it waits, `Queued` is repeated every few seconds with the position of the moment.
        """
        if self._place.is_waiting and self.terminal is None:
            yield self._queued()
        while True:
            event = await self._next()
            for parsed in self._parsed(event):
                yield parsed
            if isinstance(event, Terminal):
                return

    async def collect(self) -> Answer:
        """The whole answer.

        Raises:
            LLMServeError: the generation failed.
            asyncio.CancelledError: somebody cancelled it meanwhile.
        """
        collector = Collector()
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                match event:
                    case Failed(error, _):
                        raise error
                    case Cancelled():
                        raise asyncio.CancelledError
                    case Finish():
                        return collector.answer(event, self.sampling)
                collector.add(event)
        raise AssertionError("a stream ended without a terminal event")

    async def begun(self, deadline: float) -> None:
        """Wait, until this reading of the clock at most, for an engine that may still refuse it to
        say whether it does; not while it waits for its turn.

        Raises:
            LLMServeError: it does.
        """
        if not self._engine.refuses_late:
            return
        if not self._place.is_waiting:
            with contextlib.suppress(TimeoutError):
                async with awake_timeout(max(0.0, deadline - self._clock()), self._clock):
                    await self._begun.wait()
        if isinstance(self.terminal, Failed) and self._job.started_at is None:
            raise self.terminal.error

    def cancel(self) -> None:
        """End it now; the rest is not needed."""
        self._end_early(Cancelled(self.usage))

    def fail(self, error: LLMServeError) -> None:
        """End it now with an error."""
        self._end_early(Failed(error, self.usage))

    def close(self) -> None:
        """The reader is gone: cancel what still runs and record what was done."""
        self.cancel()
        for timer in self._timers:
            timer.cancel()
        self._record.closed(self.terminal, self.usage, *self._token_times)

    def _on_admit(self) -> None:
        self._record.admitted()
        try:
            self._engine.start(self._job)
        except RuntimeError:  # of a pool that was shut down; the place must not be lost with it
            self._mailbox.post(Failed(ShuttingDown("the engine was closed"), self.usage))
            asyncio.get_running_loop().call_soon(self._job_done)

    def _job_done(self) -> None:
        """The engine let go: give everything back."""
        self._is_done = True
        self._begun.set()
        usage = self.usage
        uncharged = usage.total_tokens - self._job.task.prompt_tokens
        self._place.give_back(self._cost(usage.completion_tokens), uncharged)
        self._record.released(usage, self._job.wasted_tokens)

    def _wait_is_over(self) -> None:
        if self._place.is_waiting:
            waited = self._clock() - self._record.arrived_at
            self.fail(
                WaitTimeout(
                    f"no slot became free within {waited:.0f} s; try again later",
                    retry_after_seconds=self._place.eta_seconds,
                )
            )

    def _on_push_out(self, error: QueueFull) -> None:
        """The gate gave this place in the queue to a caller who has fewer."""
        if self._mailbox.post(Failed(error, self.usage)):
            self._job.cancel()
        self._place.give_back()

    def _time_is_up(self) -> None:
        self._end_early(Finish(FinishReason.TIMEOUT, self.usage))

    def _end_early(self, terminal: Terminal) -> None:
        if not self._mailbox.post(terminal):
            return
        self._job.cancel()
        if self._place.is_waiting:
            self._place.give_back()
        else:
            self._record.cancelled()

    @property
    def _token_times(self) -> tuple[float | None, float | None]:
        first_at = self._job.first_token_at
        return first_at, self._job.last_step_at if first_at is not None else None

    def _seconds_left(self) -> float:
        deadline = self._job.task.deadline
        return math.inf if deadline is None else deadline - self._clock()

    def _cost(self, completion_tokens: int) -> float:
        """What the fair queue charges the caller."""
        return token_cost(self.usage.prompt_tokens, completion_tokens)

    def _parsed(self, event: Event) -> Sequence[Event]:
        """What the model means by it."""
        if isinstance(event, Delta):
            return self._parser.feed(event)
        if isinstance(event, Terminal):
            return (*self._parser.flush(), self._parser.conclude(event))
        return (event,)

    async def _next(self) -> Event:
        while self._place.is_waiting:
            try:
                return await asyncio.wait_for(self._mailbox.next(), QUEUE_UPDATE_SECONDS)
            except TimeoutError:
                if self._place.is_waiting:
                    return self._queued()
        return await self._mailbox.next()

    def _queued(self) -> Queued:
        return Queued(self._place.position, self._place.eta_seconds)
