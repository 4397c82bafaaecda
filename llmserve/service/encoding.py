"""One request to encode between its admission and its answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace

from llmserve.domain import EncodingAnswer
from llmserve.domain.cost import token_cost
from llmserve.engines.encoding_job import EncodingJob, EncodingOutcome
from llmserve.engines.encoding_task import EncodingTask
from llmserve.errors import LLMServeError, QueueFull, ShuttingDown, WaitTimeout
from llmserve.registry.served import ServedModel
from llmserve.service.encoding_record import EncodingRecord
from llmserve.service.place import Place
from llmserve.timer import Timer


class Encoding:
    """A task to encode that holds a place. Owned by the event loop.

    The place is given back as soon as the engine is done with the job, whether or not anybody
    waits for the answer.
    """

    def __init__(
        self,
        served: ServedModel,
        task: EncodingTask,
        place: Place,
        record: EncodingRecord,
        clock: Callable[[], float],
    ) -> None:
        self.served = served
        self._encoder = served.encoder
        self._task = task
        self._place = place
        self._record = record
        self._clock = clock
        self._timers: list[Timer] = []
        self._is_done = False
        self._outcome: EncodingOutcome | None = None
        self._ended = asyncio.Event()
        self._job = EncodingJob(task, on_end=self._end, on_done=self._job_done)

    @property
    def is_background(self) -> bool:
        """Whether it is background work, which gives way to what is not."""
        return self._task.is_background

    @property
    def silent_seconds(self) -> float:
        """Since the running job's last sign of life; 0 when it does not run."""
        at = self._job.last_step_at
        is_running = at is not None and not self._is_done and self._outcome is None
        return self._clock() - at if at is not None and is_running else 0.0

    def enter(self, wait_timeout_seconds: float) -> None:
        """Wait for a turn; the job starts when it comes. Background work waits up to its deadline.

        Raises:
            QueueFull: the gate has no place left.
            DeadlineUnreachable: the turn would come too late.
        """
        deadline = self._task.deadline
        seconds = math.inf if deadline is None else deadline - self._clock()
        self._place.enter(
            self._on_admit,
            self._on_push_out,
            cost=token_cost(self._task.prompt_tokens, 0),
            patience_seconds=max(0.0, min(wait_timeout_seconds, seconds)),
            on_displace=self.fail,
        )
        if self._place.is_waiting and not self.is_background:
            self._timers.append(Timer(wait_timeout_seconds, self._wait_is_over, self._clock))
        if math.isfinite(seconds):
            self._timers.append(Timer(max(0.0, seconds), self._time_is_up, self._clock))

    async def answer(self) -> EncodingAnswer:
        """The answer, once it is there.

        Raises:
            LLMServeError: there is none.
        """
        await self._ended.wait()
        assert self._outcome is not None, "it has ended"
        if isinstance(self._outcome, LLMServeError):
            raise self._outcome
        return replace(self._outcome, queue_seconds=self._record.queue_seconds)

    def fail(self, error: LLMServeError) -> None:
        """End it now with an error."""
        if self._outcome is None:
            self._end(error)
            self._leave()

    def close(self) -> None:
        """Nobody waits any more: cancel what still runs and record what was done."""
        if self._outcome is None:
            self._leave()
        for timer in self._timers:
            timer.cancel()
        was_computed = self._job.started_at is not None
        self._record.ended(self._outcome, self._task.prompt_tokens, was_computed=was_computed)

    def _leave(self) -> None:
        self._job.cancel()
        if self._place.is_waiting:
            self._place.give_back()
        else:
            self._record.cancelled()

    def _end(self, outcome: EncodingOutcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._ended.set()

    def _on_admit(self) -> None:
        self._record.admitted()
        try:
            self._encoder.start(self._job)
        except RuntimeError:  # of a pool that was shut down; the place must not be lost with it
            self._end(ShuttingDown("the engine was closed"))
            asyncio.get_running_loop().call_soon(self._job_done)

    def _job_done(self) -> None:
        """The engine let go: give everything back."""
        self._is_done = True
        self._place.give_back(token_cost(self._task.prompt_tokens, 0))
        self._record.let_go()

    def _on_push_out(self, error: QueueFull) -> None:
        """The gate gave this place in the queue to a caller who has fewer."""
        self._end(error)
        self._job.cancel()
        self._place.give_back()

    def _wait_is_over(self) -> None:
        if self._place.is_waiting:
            waited = self._clock() - self._record.arrived_at
            self.fail(
                WaitTimeout(
                    f"no slot became free within {waited:.0f} s; try again later",
                    retry_after_seconds=self._place.eta_seconds,
                )
            )

    def _time_is_up(self) -> None:
        taken = self._clock() - self._record.arrived_at
        self.fail(
            WaitTimeout(
                f"this request was not encoded within {taken:.1f} s, when its time was over; send "
                "fewer or shorter inputs, allow it more time, or try again later"
            )
        )
