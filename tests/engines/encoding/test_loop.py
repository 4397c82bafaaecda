"""The batch loop, with a computation that a test makes: ways out first."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from bounded import run

from llmserve.domain import EncodingAnswer, EncodingPurpose
from llmserve.engines.batch_report import BatchReport
from llmserve.engines.encoding.answers import Answers
from llmserve.engines.encoding.computation import Computed
from llmserve.engines.encoding.loop import EncodingLoop
from llmserve.engines.encoding_job import EncodingJob, EncodingOutcome
from llmserve.engines.encoding_task import EncodingTask, TokenInput
from llmserve.engines.wakes import Wakes
from llmserve.errors import GenerationFailed, LLMServeError, ModelUnloaded, OutOfMemory


@dataclass
class Machine:
    """An input's vector is its first token and its length. `most` tokens fit; `poison` raises."""

    most: int = 10_000
    poison: int = -1
    batches: list[list[int]] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)
    is_broken: bool = False
    before: Callable[[], None] = lambda: None

    def compute(self, inputs: Sequence[TokenInput], *, is_alone: bool) -> Computed:
        self.before()
        self.alone.append(is_alone)
        self.batches.append([len(each) for each in inputs])
        if sum(map(len, inputs)) > self.most:
            raise MemoryError
        if any(each.ids[0] == self.poison for each in inputs):
            raise ValueError("poison")
        rows = [[np.nan if each.ids[0] == 13 else each.ids[0], len(each)] for each in inputs]
        return Computed(np.array(rows, dtype=np.float32), padding=1)

    def diagnose(self, error: Exception) -> LLMServeError:
        if isinstance(error, MemoryError):
            return OutOfMemory("too much")
        return GenerationFailed("poison")

    def is_lost(self) -> bool:
        return self.is_broken


@dataclass
class Bench:
    loop: EncodingLoop
    machine: Machine
    reports: list[BatchReport]
    done: list[EncodingJob] = field(default_factory=list)
    outcomes: dict[EncodingJob, EncodingOutcome] = field(default_factory=dict)

    def submit(self, *inputs: tuple[int, int], caller: str = "ann") -> EncodingJob:
        """Inputs by their first token and their length."""
        made = tuple(TokenInput(array("i", [first] * length)) for first, length in inputs)
        task = EncodingTask(
            request_id="r",
            purpose=EncodingPurpose.EMBEDDING,
            inputs=made,
            tokens=tuple(map(len, made)),
            caller=caller,
        )

        def end(outcome: EncodingOutcome) -> None:
            assert job not in self.outcomes
            self.outcomes[job] = outcome

        job = EncodingJob(task, on_end=end, on_done=lambda: self.done.append(job))
        self.loop.submit(job)
        return job

    def error_of(self, job: EncodingJob) -> LLMServeError:
        outcome = self.outcomes[job]
        assert isinstance(outcome, LLMServeError)
        return outcome

    def vectors_of(self, job: EncodingJob) -> list[list[float]]:
        outcome = self.outcomes[job]
        assert isinstance(outcome, EncodingAnswer)
        return [list(vector) for vector in outcome.vectors]


def bench(machine: Machine | None = None, budget: int = 100, *, num_threads: int = 1) -> Bench:
    machine, reports = machine or Machine(), list[BatchReport]()
    loop = EncodingLoop(
        machine,
        Answers("m").of,
        Wakes(asyncio.get_running_loop()),
        budget=budget,
        clock=lambda: 1.0,
        on_batch=reports.append,
        num_threads=num_threads,
    )
    return Bench(loop, machine, reports)


async def told() -> None:
    """What was handed over to the event loop has run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_a_cancelled_job_is_let_go_of_without_an_outcome() -> None:
    async def test() -> None:
        b = bench()
        job, other = b.submit((1, 60), (2, 60)), b.submit((3, 50), caller="bob")
        job.cancel()
        b.loop.turn()
        await told()
        assert b.machine.batches == [[50]]
        assert set(b.done) == {job, other}
        assert set(b.outcomes) == {other}

    run(test)


def test_cancelled_in_mid_work_no_more_of_it_is_computed() -> None:
    async def test() -> None:
        b = bench()
        job = b.submit((1, 60), (2, 60))
        b.loop.turn()
        job.cancel()
        b.loop.turn()
        await told()
        assert b.machine.batches == [[60]]
        assert (b.done, b.outcomes) == ([job], {})

    run(test)


def test_only_the_request_that_breaks_a_batch_fails() -> None:
    async def test() -> None:
        b = bench(Machine(poison=7))
        good, bad, other = b.submit((1, 5)), b.submit((2, 5), (7, 5)), b.submit((3, 5))
        b.loop.turn()
        await told()
        assert b.error_of(bad).message == "poison"
        assert b.vectors_of(good) == [[1.0, 5.0]]
        assert b.vectors_of(other) == [[3.0, 5.0]]
        assert set(b.done) == {good, bad, other}

    run(test)


def test_a_batch_that_has_no_room_is_computed_in_parts() -> None:
    async def test() -> None:
        b = bench(Machine(most=30))
        fits = b.submit((1, 20), (2, 20), (3, 20))
        large = b.submit((4, 40), caller="bob")
        b.loop.turn()
        await told()
        assert b.vectors_of(fits) == [[1.0, 20.0], [2.0, 20.0], [3.0, 20.0]]
        assert isinstance(b.error_of(large), OutOfMemory)

    run(test)


def test_vectors_that_are_no_numbers_fail_their_request_alone() -> None:
    async def test() -> None:
        b = bench()
        bad, good = b.submit((13, 5), (13, 6)), b.submit((1, 5))
        b.loop.turn()
        await told()
        assert "not numbers" in b.error_of(bad).message
        assert b.vectors_of(good) == [[1.0, 5.0]]
        assert len(b.done) == 2

    run(test)


def test_a_lost_device_ends_everything() -> None:
    async def test() -> None:
        b = bench(Machine(poison=7, is_broken=True))
        jobs = [b.submit((7, 5)), b.submit((1, 60), (2, 60))]
        b.loop.run()
        late = b.submit((1, 5))
        b.loop.refuse_rest()
        await told()
        assert b.loop.is_lost
        assert all("engine failed" in b.error_of(job).message for job in [*jobs, late])
        assert b.done == [*jobs, late]

    run(test)


def test_a_bug_of_the_loop_leaves_nobody_waiting() -> None:
    async def test() -> None:
        b = bench()
        b.machine.compute = lambda inputs, is_alone: None  # type: ignore[assignment, return-value]
        job = b.submit((1, 5))
        b.loop.run()
        await told()
        assert b.loop.is_lost
        assert "engine failed" in b.error_of(job).message
        assert b.done == [job]

    run(test)


def test_closing_tells_who_waits() -> None:
    async def test() -> None:
        b = bench()
        entered, may_go = threading.Event(), threading.Event()

        def held() -> None:
            entered.set()
            assert may_go.wait(20)

        b.machine.before = held
        job = b.submit((1, 60), (2, 60))
        thread = threading.Thread(target=b.loop.run)
        thread.start()
        await asyncio.to_thread(entered.wait, 20)
        b.loop.close()
        may_go.set()
        await asyncio.to_thread(thread.join, 20)
        await told()
        assert isinstance(b.error_of(job), ModelUnloaded)
        assert b.machine.batches == [[60]]
        assert b.done == [job]

    run(test)


def test_requests_are_computed_together_and_told_apart() -> None:
    async def test() -> None:
        b = bench()
        first, second = b.submit((1, 30), (2, 10)), b.submit((3, 20), caller="bob")
        b.loop.turn()
        await told()
        assert sorted(b.machine.batches[0]) == [10, 20, 30]
        assert b.vectors_of(first) == [[1.0, 30.0], [2.0, 10.0]]
        assert b.vectors_of(second) == [[3.0, 20.0]]
        [report] = b.reports
        assert (report.inputs, report.tokens, report.padding) == (3, 60, 1)
        assert report.fill == pytest.approx(0.6)

    run(test)


def test_what_there_is_belongs_to_the_first_thread_while_it_is_idle() -> None:
    async def test() -> None:
        b = bench(num_threads=2)
        job = b.submit((1, 60))
        assert not b.loop.turn(leads=False)
        assert b.loop.turn()
        assert not b.loop.turn()
        await told()
        assert (b.machine.alone, b.vectors_of(job)) == ([True], [[1, 60]])

    run(test)


def test_others_compute_while_the_first_thread_is_busy() -> None:
    async def test() -> None:
        is_held, may_go, first = threading.Event(), threading.Event(), list[int]()

        def before() -> None:
            first.append(threading.get_ident())
            if len(set(first)) == 1:
                is_held.set()
                assert may_go.wait(20)

        b = bench(Machine(before=before), num_threads=2)
        threads = [
            threading.Thread(target=b.loop.run, kwargs={"leads": leads}) for leads in (True, False)
        ]
        for thread in threads:
            thread.start()
        slow = b.submit((1, 60))
        assert await asyncio.to_thread(is_held.wait, 20)
        quick = b.submit((2, 60), (3, 60))
        while quick not in b.outcomes:
            await asyncio.sleep(0.001)
        assert slow not in b.outcomes
        assert b.loop.busy_since is not None
        may_go.set()
        while slow not in b.outcomes:
            await asyncio.sleep(0.001)
        b.loop.close()
        for thread in threads:
            await asyncio.to_thread(thread.join, 20)
        await told()
        assert sorted(b.machine.batches) == [[60], [60], [60]]
        assert b.machine.alone == [False, False, True], "in the order in which they ended"
        assert (b.vectors_of(quick), b.vectors_of(slow)) == ([[2, 60], [3, 60]], [[1, 60]])
        assert (set(b.done), b.loop.busy_since) == ({slow, quick}, None)

    run(test)


def test_cancelled_jobs_are_over_once_no_thread_computes_them() -> None:
    async def test() -> None:
        is_held, may_go = threading.Event(), threading.Event()

        def before() -> None:
            is_held.set()
            assert may_go.wait(20)

        b = bench(Machine(before=before), num_threads=2)
        job = b.submit((1, 60), (2, 60))
        leading = threading.Thread(target=b.loop.turn)
        leading.start()
        assert await asyncio.to_thread(is_held.wait, 20)
        job.cancel()
        assert not b.loop.turn(leads=False), "what is left of it is not computed"
        await told()
        assert not b.done
        may_go.set()
        await asyncio.to_thread(leading.join, 20)
        await told()
        assert (b.machine.batches, b.done, b.outcomes) == ([[60]], [job], {})

    run(test)


def test_the_last_thread_ends_what_is_left() -> None:
    async def test() -> None:
        b = bench(num_threads=2)
        b.loop.close()
        left = b.submit((1, 60))
        b.loop.run(leads=False)
        await told()
        assert not b.done
        b.loop.run()
        await told()
        assert isinstance(b.error_of(left), ModelUnloaded)
        assert b.done == [left]

    run(test)


class Between(threading.Event):
    """The loop is closed just before a thread looks for work, which clears the event."""

    def __init__(self, loop: EncodingLoop) -> None:
        super().__init__()
        self._loop = loop
        self._is_closed = False

    def clear(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._loop.close()
        super().clear()


@pytest.mark.parametrize("leads", [True, False])
def test_no_thread_misses_that_the_loop_is_closed_while_it_looks_for_work(leads: bool) -> None:
    async def test() -> None:
        loop = bench(num_threads=2).loop
        loop._work = loop._help = Between(loop)
        threads = [threading.Thread(target=loop.run, kwargs={"leads": leads}) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, 10)
        assert not any(thread.is_alive() for thread in threads)

    run(test)
