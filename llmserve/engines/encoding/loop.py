"""The batch loop: arrivals → line → compute → publish, on threads of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
from loguru import logger

from llmserve.domain import EncodingAnswer
from llmserve.engines.batch_report import BatchReport
from llmserve.engines.encoding.computation import Computed, Vectors
from llmserve.engines.encoding.line import Line
from llmserve.engines.encoding_job import EncodingJob
from llmserve.engines.encoding_task import EncodingTask, TokenInput
from llmserve.engines.wakes import Wakes
from llmserve.errors import GenerationFailed, LLMServeError, ModelUnloaded

LOST: Final = "the engine failed; its worker is being restarted"
NO_NUMBERS: Final = "the model's vectors are not numbers; the checkpoint may be damaged"


class Computation(Protocol):
    """What computes batches, on the loop's threads, several of them at once."""

    def compute(self, inputs: Sequence[TokenInput], *, is_alone: bool) -> Computed:
        """The vectors of inputs; may raise anything. `is_alone` on the leading thread, while there
        is nothing to compute beside them: all processors may be used."""
        ...

    def diagnose(self, error: Exception) -> LLMServeError:
        """Our error for what `compute` raised; lets go of its memory."""
        ...

    def is_lost(self) -> bool:
        """Whether it computes no more; asked after a failure."""
        ...


@dataclass(slots=True)
class _Progress:
    """`vectors` are of all inputs, (inputs, width), once the first was computed. So many threads
    are computing some of them."""

    left: int
    num_computing: int = 0
    vectors: Vectors | None = None


class EncodingLoop:
    """Runs every job of a model. `submit`, `close` and `refuse_rest` are for any thread, the rest
    belongs to the threads that call `run`. Once the computation is lost, every job fails and the
    loop ends.

    One thread leads. The others take what is in line while it is busy: several threads that compute
    a batch each, on a processor each, get more done than one that has all processors.
    """

    def __init__(
        self,
        computation: Computation,
        answer: Callable[[EncodingTask, Vectors], EncodingAnswer],
        wakes: Wakes,
        *,
        budget: int,
        clock: Callable[[], float],
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        num_threads: int = 1,
    ) -> None:
        """`budget` is how many tokens a batch has at most, unless one input has more. `on_batch` is
        called on the thread that computed it. `num_threads` will call `run`."""
        self._computation = computation
        self._answer = answer
        self._wakes = wakes
        self._budget = budget
        self._clock = clock
        self._on_batch = on_batch
        self._inbox: deque[EncodingJob] = deque()
        self._lock = threading.Lock()
        self._num_threads = num_threads
        self._work, self._help = threading.Event(), threading.Event()
        self._begun: dict[int, float] = {}
        self._is_led = False
        self._is_closing = False
        self._line: Line[EncodingJob] = Line()
        self._open: dict[EncodingJob, _Progress] = {}
        self.is_lost = False

    @property
    def busy_since(self) -> float | None:
        """When the oldest batch was begun that is being computed."""
        return min(self._begun.copy().values(), default=None)

    def submit(self, job: EncodingJob) -> None:
        """Run a job: it gets one outcome, unless it is cancelled, then `on_done` is called."""
        self._inbox.append(job)
        self._wake()

    def close(self) -> None:
        """End the loop after the current batches; what still runs gets an error."""
        self._is_closing = True
        self._wake()

    def run(self, *, leads: bool = True) -> None:
        """The loop itself, until `close`. Exactly one thread leads."""
        try:
            while not self._is_closing:
                if not self.turn(leads=leads):
                    (self._work if leads else self._help).wait()
        # What a batch raises has been dealt with: this is a bug of the loop itself, after which
        # nothing can be relied on. Nobody is left waiting for it.
        except Exception:
            logger.exception("the batch loop broke")
            self._lose()
        with self._lock:
            self._num_threads -= 1
            if not self._num_threads:
                self._end_all()

    def turn(self, *, leads: bool = True) -> bool:
        """Handle what came in since the last batch, then compute one; whether there was any."""
        thread = threading.get_ident()
        with self._lock:
            # Before it is seen what there is: what comes later sets it again.
            (self._work if leads else self._help).clear()
            if self._is_closing:  # just now, perhaps: nobody may miss it
                self._wake()
                return False
            if not leads and not self._is_led:
                return False
            self._take_arrivals()
            self._drop_cancelled()
            begun = self._clock()
            chosen = self._line.take(self._budget) if self._line else []
            self._wakes.flush()
            if not chosen:
                return False
            jobs = dict.fromkeys(job for job, _ in chosen)
            for job in jobs:
                job.started_at = begun if job.started_at is None else job.started_at
                job.last_step_at = begun
                self._open[job].num_computing += 1
            is_alone = leads and not self._line and not self._begun
            if self._line:
                self._help.set()
            self._is_led = self._is_led or leads
            self._begun[thread] = begun
        try:
            padding = self._attempt(chosen, is_alone=is_alone)
        finally:
            with self._lock:
                self._is_led = self._is_led and not leads
                del self._begun[thread]
                self._let_go(jobs)
        self._report(chosen, padding, begun)
        with self._lock:
            self._wakes.flush()
        return True

    def refuse_rest(self) -> None:
        """Refuse what is still in the inbox, as nobody will run it. Once `run` has returned this
        is for any thread: the last jobs may have come meanwhile."""
        while self._inbox:
            job = self._inbox.popleft()
            self._tell(job, self._end_error())
            self._wakes.add(job.on_done)
        self._wakes.flush()

    def _take_arrivals(self) -> None:
        while self._inbox:
            job = self._inbox.popleft()
            task = job.task
            self._open[job] = _Progress(len(task.inputs))
            self._line.add(
                job,
                [len(each) for each in task.inputs],
                caller=task.caller,
                priority=task.priority,
                is_background=task.is_background,
            )

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._open if job.is_cancelled]:
            self._line.remove(job)
            if not self._open[job].num_computing:
                self._remove(job)

    def _let_go(self, jobs: Iterable[EncodingJob]) -> None:
        """A thread has computed inputs of these. One that was cancelled meanwhile is over only
        now."""
        for job in jobs:
            progress = self._open.get(job)
            if progress is None:
                continue
            progress.num_computing -= 1
            if job.is_cancelled and not progress.num_computing:
                self._remove(job)

    def _wake(self) -> None:
        self._work.set()
        self._help.set()

    def _attempt(self, chosen: Sequence[tuple[EncodingJob, int]], *, is_alone: bool) -> int:
        """Compute inputs and publish what came of them; returns how many tokens were padding.

        A batch that fails is tried again in halves, until those inputs are found that make it
        fail, whose requests end with the error; half a batch also needs half the memory.
        """
        with self._lock:
            chosen = [(job, index) for job, index in chosen if job in self._open]
        if not chosen or self.is_lost:
            return 0
        inputs = [job.task.inputs[index] for job, index in chosen]
        try:
            computed = self._computation.compute(inputs, is_alone=is_alone)
        # The worker's boundary: whatever a model raises ends the fewest requests.
        except Exception as error:
            failure = self._computation.diagnose(error)
            if self._computation.is_lost():
                self._lose()
                return 0
            if len(chosen) == 1:
                with self._lock:
                    self._fail(chosen[0][0], failure)
                return 0
            half = len(chosen) // 2
            parts = chosen[:half], chosen[half:]
            return sum(self._attempt(part, is_alone=is_alone) for part in parts)
        with self._lock:
            self._publish(chosen, computed.vectors)
        return computed.padding

    def _publish(self, chosen: Sequence[tuple[EncodingJob, int]], vectors: Vectors) -> None:
        are_numbers = [bool(np.isfinite(vector).all()) for vector in vectors]
        for (job, index), vector, is_number in zip(chosen, vectors, are_numbers, strict=True):
            progress = self._open.get(job)
            if progress is None:  # another one of its inputs has failed
                continue
            if not is_number:
                self._fail(job, GenerationFailed(NO_NUMBERS))
                continue
            if progress.vectors is None:
                shape = (len(job.task.inputs), len(vector))
                progress.vectors = np.empty(shape, dtype=np.float32)
            progress.vectors[index] = vector
            progress.left -= 1
            if not progress.left:
                self._tell(job, self._answer(job.task, progress.vectors))
                self._remove(job)

    def _report(
        self, chosen: Sequence[tuple[EncodingJob, int]], padding: int, begun: float
    ) -> None:
        tokens = sum(len(job.task.inputs[index]) for job, index in chosen)
        seconds, fill = self._clock() - begun, tokens / self._budget
        self._on_batch(BatchReport(seconds, len(chosen), tokens, padding, fill))

    def _fail(self, job: EncodingJob, error: LLMServeError) -> None:
        if job in self._open:  # another thread may have failed it
            self._tell(job, error)
            self._remove(job)

    def _tell(self, job: EncodingJob, outcome: EncodingAnswer | LLMServeError) -> None:
        if not job.is_cancelled:
            self._wakes.add(partial(job.on_end, outcome))

    def _remove(self, job: EncodingJob) -> None:
        del self._open[job]
        self._line.remove(job)
        self._wakes.add(job.on_done)

    def _lose(self) -> None:
        """Nothing can be computed any more, and the worker has to be replaced."""
        self.is_lost = True
        self._is_closing = True
        self._wake()
        logger.error("the engine is lost and ends")

    def _end_all(self) -> None:
        jobs, self._open = list(self._open), {}
        for job in jobs:
            self._tell(job, self._end_error())
            self._wakes.add(job.on_done)
        self._line = Line()
        self.refuse_rest()

    def _end_error(self) -> LLMServeError:
        if self.is_lost:
            return GenerationFailed(LOST)
        return ModelUnloaded("the model was unloaded")
