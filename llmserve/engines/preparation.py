"""A model's own threads for what comes before its engine: templates and tokenizers. Knows neither.

Both are a model's code and as slow as a prompt is long, or slower: a template may loop for ever.
What else needs a thread (other models, gunzip, metrics) must not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from llmserve.admission.fair_queue import Entry, FairQueue
from llmserve.clock import awake_clock
from llmserve.errors import LLMServeError, QueueFull

NUM_THREADS: Final = 2
LARGE: Final = 2**16
"""Characters of a prompt, or tokens. Large ones take one thread at most, others find the second."""
MAX_WAITING: Final = 2**26
"""Characters of all prompts that wait for a thread, for large ones and others apart."""
OVERHEAD: Final = 2**10
"""What a prompt counts beside its characters, so that their number is bounded, too."""
QUICK: Final = 2**10
"""Characters of a prompt, or tokens, that become tokens sooner than a thread could begin."""
QUICK_COUNT: Final = 4
"""Texts of one request; more go to the threads, however short they are."""
RETRY_SECONDS: Final = 2.0

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Job:
    """Work, and the `answer` for its caller, who may have left while a thread works."""

    work: Callable[[], Any]
    size: int
    answer: asyncio.Future[Any]
    on_end: Callable[[], None]
    begun_at: float | None = None
    is_waiting: bool = True


@dataclass(slots=True)
class _Lane:
    """Jobs of one kind, at most `max_running` of them on threads."""

    max_running: int
    queue: FairQueue[_Job] = field(default_factory=FairQueue)
    waiting_size: int = 0
    running: set[_Job] = field(default_factory=set)

    def push(self, job: _Job, caller: str, priority: int) -> Entry[_Job]:
        """The caller's share is counted in characters.

        Raises:
            QueueFull: no room, and nobody has clearly more waiting.
        """
        while self.queue and self.waiting_size + job.size > MAX_WAITING:
            victims = self.queue.longest(1, caller, priority)
            if not victims:
                raise _full()
            self.drop(victims[0])
            _end(victims[0].item, _full())
        self.waiting_size += job.size
        return self.queue.push(job, caller, priority, job.size)

    def drop(self, entry: Entry[_Job]) -> None:
        """Take it out of the queue before it has begun."""
        self.queue.remove(entry)
        self.waiting_size -= entry.item.size
        entry.item.is_waiting = False

    def pop(self) -> _Job:
        """The next one, which runs from now on."""
        job = self.queue.pop().item
        self.waiting_size -= job.size
        job.is_waiting = False
        self.running.add(job)
        return job


class PreparationPool:
    """A few threads and bounded queues before them, fair among callers. Owned by the event loop.

    A thread cannot be stopped: work whose caller has left keeps its thread to the end.
    """

    def __init__(self, name: str, clock: Callable[[], float] = awake_clock) -> None:
        self._clock = clock
        self._threads = ThreadPoolExecutor(NUM_THREADS, f"generate-prepare-{name}")
        self._small, self._large = _Lane(NUM_THREADS), _Lane(NUM_THREADS - 1)
        self._closed_by: LLMServeError | None = None

    @property
    def seconds_running(self) -> float | None:
        """Age of the oldest work on a thread, `None` when there is none."""
        begun = [job.begun_at for job in self._running() if job.begun_at is not None]
        return self._clock() - min(begun) if begun else None

    async def run(
        self,
        work: Callable[[], T],
        *,
        size: int,
        caller: str = "anonymous",
        priority: int = 1,
        on_end: Callable[[], None] = lambda: None,
        is_quick: bool = False,
    ) -> T:
        """Do it on a thread. `on_end` is called once, on the event loop: when the work is over,
        though its caller may have left long before, or is never to begin. What `is_quick` for its
        size, as a library's tokenizer and no template is, is done at once if the size is small.

        Raises:
            QueueFull: too much waits for the threads.
            LLMServeError: what `fail` and `close` were given.
        """
        if is_quick and size <= QUICK:
            return self._at_once(work, on_end)
        lane = self._large if size > LARGE else self._small
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = _Job(work, size + OVERHEAD, answer, on_end)
        try:
            if self._closed_by is not None:
                raise self._closed_by
            entry = lane.push(job, caller, priority)
        except LLMServeError:
            on_end()
            raise
        self._dispatch()
        try:
            made = await answer
        finally:
            if job.is_waiting:
                lane.drop(entry)
                on_end()
        if self._closed_by is not None:  # between the last step of the work and this one
            raise self._closed_by
        return made

    def _at_once(self, work: Callable[[], T], on_end: Callable[[], None]) -> T:
        try:
            if self._closed_by is not None:
                raise self._closed_by
            return work()
        finally:
            on_end()

    def fail(self, error: LLMServeError) -> int:
        """Whoever waits gets this error; returns how many they were."""
        waiting = [(lane, entry) for lane in self._lanes for entry in lane.queue]
        for lane, entry in waiting:
            lane.drop(entry)
            _end(entry.item, error)
        awaited = [job for job in self._running() if not job.answer.done()]
        for job in awaited:
            job.answer.set_exception(error)
        return len(waiting) + len(awaited)

    def close(self, error: LLMServeError) -> None:
        """Take nothing more; the threads end when their work does. Doing it twice is harmless."""
        self._closed_by = self._closed_by or error
        self.fail(error)
        self._threads.shutdown(wait=False)

    @property
    def _lanes(self) -> tuple[_Lane, _Lane]:
        return self._small, self._large

    def _running(self) -> Iterator[_Job]:
        return (job for lane in self._lanes for job in lane.running)

    def _dispatch(self) -> None:
        """Give free threads to those who wait: the one for large prompts first, so that small ones
        do not keep it for ever, however many come."""
        for lane in (self._large, self._small):
            while (
                lane.queue
                and len(lane.running) < lane.max_running
                and sum(1 for _ in self._running()) < NUM_THREADS
            ):
                self._begin(lane, lane.pop())
            if not lane.queue and not lane.running:
                lane.queue.rest()

    def _begin(self, lane: _Lane, job: _Job) -> None:
        job.begun_at = self._clock()
        future = asyncio.get_running_loop().run_in_executor(self._threads, job.work)
        future.add_done_callback(partial(self._ended, lane, job))

    def _ended(self, lane: _Lane, job: _Job, future: asyncio.Future[Any]) -> None:
        lane.running.discard(job)
        error = future.exception()
        if error is not None:
            _end(job, error)
        else:
            if not job.answer.done():
                job.answer.set_result(future.result())
            job.on_end()
        if self._closed_by is None:
            self._dispatch()


def older(*ages: float | None) -> float | None:
    """The largest of the ages that there are."""
    return max((age for age in ages if age is not None), default=None)


def _end(job: _Job, error: BaseException) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
    job.on_end()


def _full() -> QueueFull:
    return QueueFull(
        "too many prompts wait to be turned into tokens; try again later",
        retry_after_seconds=RETRY_SECONDS,
    )
