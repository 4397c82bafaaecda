"""The step loop, with a computation that does as it is told: who fails, who lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from bounded import run
from engines.batching.letters_machine import EOS, POISON, Lost, Machine, NextLetter, events
from loguru import logger

from llmserve.domain import Cancelled, Delta, Failed, Finish, FinishReason, SamplingParams
from llmserve.engines.batching.loop import CHECK_SECONDS
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.stream import Stream
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.step_report import StepParts
from llmserve.engines.task import TokenTask
from llmserve.errors import ModelUnloaded, OutOfMemory


def test_one_request_that_breaks_the_step_fails_alone() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        good = [machine.submit() for _ in range(3)]
        bad = machine.submit((5, POISON))
        good += [machine.submit() for _ in range(2)]
        await machine.turns(4)
        assert isinstance(bad.mailbox.terminal, Failed)
        assert "poison" in bad.mailbox.terminal.error.message
        for job in good:
            assert isinstance(job.mailbox.terminal, Finish)
            assert job.completion_tokens == 3
        await machine.check_whole(*good, bad)

    run(test)


def test_a_step_without_memory_is_made_in_smaller_ones() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(most=2))
        jobs = [machine.submit() for _ in range(7)]
        await machine.turns(4)
        assert all(isinstance(job.mailbox.terminal, Finish) for job in jobs)
        await machine.check_whole(*jobs)

    run(test)


def test_a_request_that_has_no_room_alone_fails_with_the_reason() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(most=0))
        job = machine.submit()
        await machine.turns(1)
        assert isinstance(job.mailbox.terminal, Failed)
        assert isinstance(job.mailbox.terminal.error, OutOfMemory)
        await machine.check_whole(job)

    run(test)


def test_logits_that_are_no_numbers_fail_their_request_alone() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(answer=lambda ids: None if ids[0] == 9 else 11))
        bad, good = machine.submit((9, 9)), machine.submit((1, 1))
        await machine.turns(4)
        assert isinstance(bad.mailbox.terminal, Failed)
        assert "not numbers" in bad.mailbox.terminal.error.message
        assert isinstance(good.mailbox.terminal, Finish)
        await machine.check_whole(bad, good)

    run(test)


def test_a_prompt_that_cannot_be_taken_fails_alone() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(), num_blocks=4)
        odd, long, good = machine.submit((POISON + 1,)), machine.submit([1] * 99), machine.submit()
        await machine.turns(4)
        assert isinstance(odd.mailbox.terminal, Failed)
        assert isinstance(long.mailbox.terminal, Failed)
        assert isinstance(good.mailbox.terminal, Finish)
        await machine.check_whole(odd, long, good)

    run(test)


@pytest.mark.parametrize("turns_before", [0, 1, 2])
def test_a_cancel_takes_effect_before_the_next_step(turns_before: int) -> None:
    async def test() -> None:
        computation = NextLetter()
        machine = Machine(computation, tokens=16)
        gone, other = machine.submit([1] * 30, max_tokens=9), machine.submit(max_tokens=9)
        await machine.turns(turns_before)
        gone.cancel()
        before = len(computation.plans)
        await machine.turns(1)
        assert isinstance(gone.mailbox.terminal, Cancelled)
        assert gone in machine.done
        for plan in computation.plans[before:]:
            assert all(part.sequence.token_ids[:2] == [1, 2] for part in plan.slices)
        await machine.turns(10)
        assert isinstance(other.mailbox.terminal, Finish)
        await machine.check_whole(gone, other)

    run(test)


def test_a_lost_device_ends_everything_and_shows() -> None:
    async def test() -> None:
        computation = NextLetter()
        machine = Machine(computation)
        jobs = [machine.submit() for _ in range(3)]
        await machine.turns(1)
        computation.error = Lost("unspecified launch failure")
        late = machine.submit((8, 8))
        await asyncio.to_thread(machine.loop.run)
        assert machine.loop.is_lost
        for job in (*jobs, late):
            assert isinstance(job.mailbox.terminal, Failed)
        await machine.check_whole(*jobs, late)

    run(test)


def test_a_step_that_was_tried_again_teaches_the_pacer_nothing() -> None:
    async def test() -> None:
        computation = NextLetter(most=1)
        machine = Machine(computation)
        learnt: list[StepPlan] = []
        machine.loop._pacer.learn = lambda plan, seconds: learnt.append(plan)  # type: ignore[method-assign]
        jobs = [machine.submit(), machine.submit()]
        await machine.turns(1)
        assert learnt == []
        computation.most = 100
        await machine.turns(1)
        assert len(learnt) == 1
        await machine.turns(3)
        await machine.check_whole(*jobs)

    run(test)


def test_a_device_that_is_lost_while_a_job_is_admitted_ends_everything() -> None:
    async def test() -> None:
        computation = NextLetter()
        machine = Machine(computation)
        running = machine.submit()
        await machine.turns(1)

        def admit(job: Job) -> Stream[None]:
            computation.error = Lost("an illegal memory access was encountered")
            raise computation.error

        machine.loop._admit = admit
        jobs = [machine.submit((8, 8)), machine.submit((8, 8))]
        await asyncio.to_thread(machine.loop.run)
        assert machine.loop.is_lost
        assert len(computation.plans) == 1, "nothing was computed after the device was lost"
        for job in (running, *jobs):
            assert isinstance(job.mailbox.terminal, Failed)
        await machine.check_whole(running, *jobs)

    run(test)


def test_a_device_that_is_lost_while_a_step_is_prepared_ends_everything() -> None:
    async def test() -> None:
        computation = NextLetter()
        machine = Machine(computation)

        def prepare(plan: StepPlan) -> StepPlan:
            computation.error = Lost("device-side assert triggered")
            raise computation.error

        computation.prepare = prepare  # type: ignore[method-assign]
        jobs = [machine.submit(), machine.submit()]
        await asyncio.to_thread(machine.loop.run)
        assert machine.loop.is_lost
        assert computation.plans == []
        assert all(isinstance(job.mailbox.terminal, Failed) for job in jobs)
        await machine.check_whole(*jobs)

    run(test)


def test_a_fault_of_the_loop_itself_leaves_nobody_waiting() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        jobs = [machine.submit() for _ in range(3)]
        await machine.turns(1)

        def broken(prefill_tokens: int | None = None) -> StepPlan:
            raise ZeroDivisionError

        machine.scheduler.plan = broken  # type: ignore[method-assign]
        late = machine.submit((8, 8))
        await asyncio.to_thread(machine.loop.run)
        assert machine.loop.is_lost
        for job in (*jobs, late):
            assert isinstance(job.mailbox.terminal, Failed)
        await machine.check_whole(*jobs, late)

    run(test)


def test_what_comes_after_the_end_is_refused() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        machine.loop.close()
        await asyncio.to_thread(machine.loop.run)
        late, call = machine.submit(), machine.loop.call(lambda: 1)
        machine.loop.refuse_rest()
        await machine.check_whole(late)
        assert isinstance(late.mailbox.terminal, Failed)
        assert isinstance(call.exception(0), ModelUnloaded)

    run(test)


def test_closing_ends_what_runs_and_what_has_just_come() -> None:
    async def test() -> None:
        computation = NextLetter()
        machine = Machine(computation)
        computation.may_go.clear()
        running = machine.submit(max_tokens=50)
        thread = asyncio.create_task(asyncio.to_thread(machine.loop.run))
        await asyncio.to_thread(computation.entered.wait, 20)
        late = machine.submit()
        call = machine.loop.call(lambda: 1)
        machine.loop.close()
        computation.may_go.set()
        await thread
        assert isinstance(running.mailbox.terminal, Cancelled)
        assert isinstance(late.mailbox.terminal, Failed)
        assert isinstance(late.mailbox.terminal.error, ModelUnloaded)
        with pytest.raises(ModelUnloaded):
            call.result(0)
        await machine.check_whole(running, late)

    run(test)


def test_a_step_that_hangs_shows_in_its_age() -> None:
    async def test() -> None:
        computation = NextLetter()
        machine = Machine(computation)
        thread = asyncio.create_task(asyncio.to_thread(machine.loop.run))
        assert machine.loop.busy_since is None
        computation.may_go.clear()
        job = machine.submit(max_tokens=1)
        await asyncio.to_thread(computation.entered.wait, 20)
        computation.now = 500.0
        assert machine.loop.busy_since == 0.0
        computation.may_go.set()
        assert isinstance((await events(job))[-1], Finish)
        machine.loop.close()
        await thread
        await machine.check_whole(job)

    run(test)


def test_the_event_loop_is_woken_once_per_step() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        jobs = [machine.submit(max_tokens=2) for _ in range(10)]
        loop, woken = asyncio.get_running_loop(), []
        original = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *a: (woken.append(a), original(*a))[1]  # type: ignore[method-assign,assignment]
        try:
            machine.loop.turn()
            assert len(woken) == 1
            machine.loop.turn()
            assert len(woken) == 2  # the second time after the last step
        finally:
            del loop.call_soon_threadsafe
        for job in jobs:
            told = await events(job)
            assert [type(event).__name__ for event in told] == ["Started", "Delta", "Finish"]
        await machine.check_whole(*jobs)

    run(test)


def test_a_call_runs_between_steps_and_its_error_is_its_callers() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        good, bad = machine.loop.call(lambda: 7), machine.loop.call(lambda: 1 // 0)
        await machine.turns(1)
        assert good.result(0) == 7
        with pytest.raises(ZeroDivisionError):
            bad.result(0)

    run(test)


def test_answers_end_by_length_by_end_token_and_by_stop_string() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(answer=lambda ids: EOS if len(ids) == 5 else 10 + len(ids)))
        length = machine.submit(max_tokens=2)
        end = machine.submit(max_tokens=9)
        ignoring = machine.submit(max_tokens=6, ignore_eos=True)
        stopped = machine.submit(max_tokens=9, stop=("n",))
        await machine.turns(8)
        for job, reason, text in (
            (length, FinishReason.LENGTH, "mn"),
            (end, FinishReason.STOP, "mno"),
            (ignoring, FinishReason.LENGTH, "mnodqr"),
            (stopped, FinishReason.STOP, "m"),
        ):
            told = await events(job)
            assert isinstance(told[-1], Finish)
            assert told[-1].reason is reason
            assert "".join(e.text for e in told if isinstance(e, Delta)) == text
        await machine.check_whole(length, end, ignoring, stopped)

    run(test)


def test_steps_are_reported_with_what_they_computed() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        jobs = [machine.submit((1, 2, 3)), machine.submit((1,))]
        await machine.turns(4)
        assert [(r.tokens, r.sampled) for r in machine.reports] == [(4, 2), (2, 2), (2, 2)]
        await machine.check_whole(*jobs)

    run(test)


def test_a_report_has_the_time_of_each_part_of_its_step() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(seconds=1.0))
        job = machine.submit(max_tokens=1)
        await machine.turns(1)
        (report,) = machine.reports
        assert report.seconds == 3.0
        assert report.parts == StepParts(plan=0, prepare=1.0, compute=2.0, commit=0, publish=0)
        await machine.check_whole(job)

    run(test)


def test_an_idle_loop_tells_once_that_the_scheduler_is_wrong_and_serves_on(
    logged: list[str],
) -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        lost = machine.scheduler._pool._free.pop(0)
        jobs = []
        for _ in range(3):
            jobs.append(machine.submit())
            await machine.turns(3)
            machine.computation.now += CHECK_SECONDS
        assert [line for line in logged if "a block is lost" in line] == logged
        assert len(logged) == 1
        machine.scheduler._pool._free.append(lost)
        assert all(isinstance(job.mailbox.terminal, Finish) for job in jobs)
        await machine.check_whole(*jobs)

    run(test)


def test_the_scheduler_is_checked_in_idle_turns_alone_and_not_in_each() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        checks: list[bool] = []
        machine.scheduler.check = lambda: checks.append(machine.scheduler.is_idle)  # type: ignore[method-assign]
        for seconds, expected in ((0.0, 1), (CHECK_SECONDS / 2, 1), (CHECK_SECONDS / 2, 2)):
            machine.computation.now += seconds
            machine.submit(max_tokens=2)
            await machine.turns(2)
            assert checks == [True] * expected

    run(test)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Errors in the log."""
    lines: list[str] = []
    number = logger.add(lambda line: lines.append(str(line)), level="ERROR", format="{message}")
    yield lines
    logger.remove(number)


def test_a_job_with_any_string_for_a_salt_is_served() -> None:
    async def test() -> None:
        machine = Machine(NextLetter())
        task = TokenTask(
            request_id="id",
            prompt_ids=(1, 2),
            sampling=SamplingParams(),
            max_tokens=2,
            cache_salt="\ud800",
        )
        job = Job(task, Mailbox(asyncio.get_running_loop()), lambda: machine.done.append(job))
        machine.loop.submit(job)
        await machine.turns(2)
        assert isinstance(job.mailbox.terminal, Finish)
        await machine.check_whole(job)

    run(test)
