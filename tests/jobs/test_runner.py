"""How one worker runs lines."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_work import RULES, Work, answered, line
from bounded import run
from job_queues import Queues

from llmserve.errors import StoreFailed
from llmserve.jobs import runner
from llmserve.jobs.answered import Answered
from llmserve.jobs.batch import Batch, Counts, Status
from llmserve.jobs.line import HeldLine, LineKey
from llmserve.jobs.queue import JobQueue

Worked = Callable[[Callable[[Work], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def worked(queues: Queues, tmp_path: Path) -> Worked:
    def with_work(test: Callable[[Work], Coroutine[Any, Any, None]]) -> None:
        async def body() -> None:
            async with queues.open() as queue:
                await test(Work(queue, tmp_path / "contents", queues.clock))

        (tmp_path / "contents").mkdir()
        run(body)

    return with_work


async def all_in(work: Work, one: Batch) -> Batch:
    while not (found := await work.now(one)).counts.are_all_in:
        await asyncio.sleep(0.005)
    return found


async def results(work: Work, one: Batch) -> list[dict[str, Any]]:
    return [json.loads(result.content) for result in await work.queue.results(one.id, 0, 100)]


def waiting(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long lines are put off; they come back at once."""
    seconds: list[float] = []
    real = queue.put_off

    async def put_off(owner: str, key: LineKey, wait: float) -> None:
        seconds.append(wait)
        await real(owner, key, 0)

    monkeypatch.setattr(queue, "put_off", put_off)
    return seconds


def test_lines_are_answered_a_few_at_a_time(worked: Worked) -> None:
    async def test(work: Work) -> None:
        at_once = most = 0

        async def route(body: dict[str, Any]) -> Answered:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.001)
            at_once -= 1
            headers = {"x-request-id": "r", "x-ignored-fields": "what"}
            return answered(400 if body["n"] == 5 else 200, **headers)

        begun = await work.begun(*[line(f"l{n}", n=n) for n in range(10)])
        async with work.running(route):
            done = await all_in(work, begun)
        assert done.counts == Counts(10, 9, 1)
        assert most == RULES.lines_at_once
        told = await results(work, begun)
        assert [one["custom_id"] for one in told] == [f"l{n}" for n in range(10)]
        assert told[5]["response"]["status_code"] == 400
        assert told[5]["response"]["body"] == {"error": {"code": "e400"}}
        assert told[0]["response"] == {
            "status_code": 200, "request_id": "r", "body": {"ok": True}, "ignored_fields": "what",
        }  # fmt: skip
        assert len({one["id"] for one in told}) == 10

    worked(test)


def test_two_workers_never_run_the_same_line(
    worked: Worked, queues: Queues, tmp_path: Path
) -> None:
    async def test(work: Work) -> None:
        asked: Counter[int] = Counter()

        async def route(body: dict[str, Any]) -> Answered:
            asked[body["n"]] += 1
            await asyncio.sleep(0)
            return answered()

        begun = await work.begun(*[line(f"l{n}", n=n) for n in range(40)])
        async with queues.open() as queue:
            other = Work(queue, tmp_path / "contents", queues.clock)
            async with work.running(route), other.running(route):
                await all_in(work, begun)
        assert asked == Counter(range(40))

    worked(test)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_is_temporary_is_tried_again(
    worked: Worked, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def test(work: Work) -> None:
        seconds = waiting(work.queue, monkeypatch)
        answers = [answered(status, **{"retry-after": "7"}), answered(status), answered()]

        async def route(body: dict[str, Any]) -> Answered:
            return answers.pop(0)

        begun = await work.begun(line("a"))
        async with work.running(route):
            done = await all_in(work, begun)
        assert done.counts == Counts(1, 1, 0)
        assert seconds[0] == 7.0
        assert 0 < seconds[1] < 7.0

    worked(test)


def test_an_error_of_ours_is_final_after_some_attempts(
    worked: Worked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(work: Work) -> None:
        waiting(work.queue, monkeypatch)
        asked = 0

        async def route(body: dict[str, Any]) -> Answered:
            nonlocal asked
            asked += 1
            return answered(500)

        begun = await work.begun(line("a"))
        async with work.running(route):
            done = await all_in(work, begun)
        assert done.counts == Counts(1, 0, 1)
        assert asked == runner.MOST_FAILURES + 1

    worked(test)


@pytest.mark.parametrize("name", ["stream", "background"])
def test_what_is_not_for_lines_is_an_error_of_the_line(worked: Worked, name: str) -> None:
    async def test(work: Work) -> None:
        async def route(body: dict[str, Any]) -> Answered:
            raise AssertionError("it is not asked")

        begun = await work.begun(line("a", **{name: True}))
        async with work.running(route):
            await all_in(work, begun)
        [told] = await results(work, begun)
        assert told["error"]["code"] == "invalid_request"
        assert f"`{name}: true`" in told["error"]["message"]

    worked(test)


def test_a_line_at_which_workers_end_is_given_up(worked: Worked) -> None:
    async def test(work: Work) -> None:
        async def route(body: dict[str, Any]) -> Answered:
            raise AssertionError("it is not asked")

        begun = await work.begun(line("a"))
        for _ in range(runner.MOST_LOSSES + 1):
            assert await work.queue.take_lines("one that ends", 1, 10)
            work.clock.now += 10
        async with work.running(route):
            await all_in(work, begun)
        [told] = await results(work, begun)
        assert told["error"]["code"] == "worker_gone"

    worked(test)


def test_a_line_whose_input_is_gone_is_an_error(worked: Worked) -> None:
    async def test(work: Work) -> None:
        async def route(body: dict[str, Any]) -> Answered:
            raise AssertionError("it is not asked")

        begun = await work.begun(line("a"))
        work.contents.delete(begun.input_file_id)
        async with work.running(route):
            await all_in(work, begun)
        [told] = await results(work, begun)
        assert told["error"]["code"] == "file_not_found"

    worked(test)


def test_what_runs_ends_when_its_batch_is_cancelled(
    worked: Worked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(work: Work) -> None:
        begun_line, ended_line = asyncio.Event(), asyncio.Event()

        async def route(body: dict[str, Any]) -> Answered:
            begun_line.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended_line.set()
            raise AssertionError

        begun = await work.begun(line("a"))
        folder = work.contents.path(begun.input_file_id).parents[1]
        quick = Work(work.queue, folder, work.clock, replace(RULES, lease_seconds=0.03))
        async with quick.running(route):
            await begun_line.wait()
            await work.keeper.cancel(begun)
            await ended_line.wait()
        await work.steps()
        assert (await work.now(begun)).status is Status.CANCELLED

    worked(test)


def test_a_worker_that_closes_gives_back_what_it_has(worked: Worked) -> None:
    async def test(work: Work) -> None:
        is_closing = False
        began = asyncio.Event()

        async def route(body: dict[str, Any]) -> Answered:
            began.set()
            await asyncio.Event().wait()
            raise AssertionError

        await work.begun(*[line(f"l{n}", n=n) for n in range(5)])
        async with work.running(route, lambda: is_closing) as bell:
            await began.wait()
            is_closing = True
            bell.ring()
            held: list[HeldLine] = []
            while len(held) < 5:
                held += await work.queue.take_lines("other", 5, 10)
                await asyncio.sleep(0.005)
        assert sorted(one.line.number for one in held) == [1, 2, 3, 4, 5]
        assert {one.losses for one in held} == {0}

    worked(test)


def test_a_worker_that_ends_gives_back_what_it_has(worked: Worked) -> None:
    async def test(work: Work) -> None:
        began = asyncio.Event()

        async def route(body: dict[str, Any]) -> Answered:
            began.set()
            await asyncio.Event().wait()
            raise AssertionError

        await work.begun(line("a"), line("b"))
        async with work.running(route):
            await began.wait()
        assert len(await work.queue.take_lines("other", 5, 10)) == 2

    worked(test)


def test_a_result_waits_for_a_queue_that_is_away(
    worked: Worked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STORE_SECONDS", 0.001)

    async def test(work: Work) -> None:
        failures = 3
        asked = 0
        real = work.queue.finish

        async def finish(*arguments: Any) -> bool:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise StoreFailed("away")
            return await real(*arguments)

        async def route(body: dict[str, Any]) -> Answered:
            nonlocal asked
            asked += 1
            return answered()

        monkeypatch.setattr(work.queue, "finish", finish)
        begun = await work.begun(line("a"))
        async with work.running(route):
            done = await all_in(work, begun)
        assert (done.counts, asked) == (Counts(1, 1, 0), 1)

    worked(test)


def test_a_bug_in_one_line_leaves_the_others(worked: Worked) -> None:
    async def test(work: Work) -> None:
        async def route(body: dict[str, Any]) -> Answered:
            if body["n"] == 0:
                raise RuntimeError("a bug")
            return answered()

        begun = await work.begun(line("a", n=0), line("b", n=1))
        async with work.running(route):
            while (await work.now(begun)).counts.completed < 1:
                await asyncio.sleep(0.005)
        work.clock.now += RULES.lease_seconds
        [held] = await work.queue.take_lines("other", 5, 10)
        assert (held.line.number, held.losses) == (1, 1)

    worked(test)
