"""What becomes of batches as time goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_work import RULES, Work, line
from bounded import run
from job_queues import Queues, file

from llmserve.errors import StoreFailed
from llmserve.jobs.batch import Batch, Counts, Kind, Status, Webhook
from llmserve.jobs.batch_file import Purpose
from llmserve.jobs.line import LineKey, Result
from llmserve.jobs.queue import Page

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


async def done(work: Work, one: Batch, number: int, *, is_success: bool = True) -> None:
    content = b'{"custom_id": "line %d"}\n' % number
    assert await work.queue.finish(LineKey(one.id, number), Result(number, is_success, content))


def test_a_batch_walks_from_its_input_to_its_output(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"), line("b"), line("c"))
        assert (begun.status, begun.counts) == (Status.IN_PROGRESS, Counts(3))
        await done(work, begun, 2)
        await done(work, begun, 1, is_success=False)
        await work.steps()
        assert (await work.now(begun)).status is Status.IN_PROGRESS
        await done(work, begun, 3)
        await work.keeper.step()
        assert (await work.now(begun)).status is Status.FINALIZING
        await work.steps()
        ended = await work.now(begun)
        assert (ended.status, ended.counts) == (Status.COMPLETED, Counts(3, 2, 1))
        assert [one["custom_id"] for one in work.told(ended.output_file_id)] == ["line 2", "line 3"]
        assert [one["custom_id"] for one in work.told(ended.error_file_id)] == ["line 1"]
        assert await work.queue.results(begun.id, 0, 10) == []
        outputs = await work.queue.list_files("ann", [Purpose.OUTPUT], Page(10))
        assert {one.filename for one in outputs} == {
            "batch_1_errors.jsonl", "batch_1_output.jsonl",
        }  # fmt: skip

    worked(test)


def test_a_file_that_would_be_empty_is_not_there(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"))
        await done(work, begun, 1)
        await work.steps()
        ended = await work.now(begun)
        assert ended.error_file_id is None
        assert {path.name for path in work.contents.path(begun.input_file_id).parent.iterdir()} == {
            begun.input_file_id, ended.output_file_id,
        }  # fmt: skip

    worked(test)


def test_a_batch_with_a_wrong_line_fails_before_any_is_run(worked: Worked) -> None:
    async def test(work: Work) -> None:
        failed = await work.begun(line("a"), line("a"), {"custom_id": "b"})
        assert failed.status is Status.FAILED
        assert [(error["code"], error["line"]) for error in failed.errors] == [
            ("duplicate_custom_id", 2), ("invalid_method", 3),
        ]  # fmt: skip
        assert await work.queue.take_lines("w", 10, 10) == []

    worked(test)


def test_a_batch_with_more_lines_than_its_key_may_have_fails(worked: Worked) -> None:
    async def test(work: Work) -> None:
        for number in (1, 2):
            await work.begun(*[line(str(n)) for n in range(50)], id=f"batch_{number}")
        failed = await work.begun(line("a"), id="batch_3")
        assert failed.status is Status.FAILED
        assert failed.errors[0]["code"] == "quota_exceeded"

    worked(test)


def test_a_batch_whose_input_is_gone_fails(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"), id="batch_1")
        work.contents.delete(begun.input_file_id)
        again = await work.queue.create(
            Batch(**{
                name: getattr(begun, name)
                for name in ("kind", "caller", "endpoint", "input_file_id", "window", "created_at",
                             "expires_at")
            }, id="batch_2"),
            0, None,
        )  # fmt: skip
        await work.steps()
        assert (await work.now(again)).errors[0]["code"] == "file_not_found"

    worked(test)


def test_when_its_window_is_over_the_rest_has_expired(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"), line("b"), line("ü"), expires_at=2000.0)
        await done(work, begun, 1)
        work.clock.now = 2000.0
        await work.steps()
        ended = await work.now(begun)
        assert (ended.status, ended.counts) == (Status.EXPIRED, Counts(3, 1, 0))
        assert len(work.told(ended.output_file_id)) == 1
        rest = work.told(ended.error_file_id)
        assert [one["custom_id"] for one in rest] == ["b", "ü"]
        assert {one["error"]["code"] for one in rest} == {"batch_expired"}
        assert {one["response"] for one in rest} == {None}

    worked(test)


def test_a_batch_that_is_cancelled_keeps_what_it_has(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"), line("b"))
        await done(work, begun, 1)
        assert await work.keeper.cancel(begun)
        cancelling = await work.now(begun)
        assert cancelling.status is Status.CANCELLING
        assert not await work.keeper.cancel(begun), "it is not in that state any more"
        await work.steps()
        ended = await work.now(begun)
        assert ended.status is Status.CANCELLED
        assert len(work.told(ended.output_file_id)) == 1
        assert ended.error_file_id is None

    worked(test)


@pytest.mark.parametrize(("is_success", "outcome"), [(True, "completed"), (False, "failed")])
def test_a_single_request_ends_without_files(
    worked: Worked, is_success: bool, outcome: str
) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"), kind=Kind.CHAT)
        await done(work, begun, 1, is_success=is_success)
        await work.steps()
        ended = await work.now(begun)
        assert (ended.status, ended.output_file_id) == (outcome, None)
        assert len(await work.queue.results(begun.id, 0, 10)) == 1
        work.clock.now += RULES.keep_seconds
        await work.steps()
        assert await work.queue.find("ann", begun.id) is None
        assert not work.contents.path(begun.input_file_id).exists()

    worked(test)


def test_what_was_half_written_when_a_worker_ended_is_written_again(
    worked: Worked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"), line("b"))
        await done(work, begun, 1)
        await done(work, begun, 2)
        await work.keeper.step()
        real = work.queue.put_file

        async def away(*_: object) -> None:
            raise StoreFailed("away")

        monkeypatch.setattr(work.queue, "put_file", away)
        with pytest.raises(StoreFailed):
            await work.keeper.step()
        monkeypatch.setattr(work.queue, "put_file", real)
        assert not await work.keeper.step(), "nobody else has it yet"
        work.clock.now += RULES.lease_seconds
        await work.steps()
        ended = await work.now(begun)
        assert ended.status is Status.COMPLETED
        assert len(work.told(ended.output_file_id)) == 2
        outputs = await work.queue.list_files("ann", [Purpose.OUTPUT], Page(10))
        assert [one.id for one in outputs] == [ended.output_file_id]

    worked(test)


def test_files_that_cannot_be_written_delay_the_end(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"))
        await done(work, begun, 1)
        await work.keeper.step()
        files = work.contents.path(begun.input_file_id).parent
        moved = files.rename(files.with_name("elsewhere"))
        with pytest.raises(OSError, match="No such file"):
            await work.keeper.step()
        moved.rename(files)
        work.clock.now += RULES.lease_seconds
        await work.steps()
        assert (await work.now(begun)).status is Status.COMPLETED

    worked(test)


def test_the_end_is_told_once_somebody_takes_it(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"), webhook=Webhook("https://hooks.example/x"))
        await done(work, begun, 1)
        work.hook_status = 500
        await work.steps()
        assert len(work.called) == 1
        work.clock.now += 5
        work.hook_status = 200
        await work.steps()
        work.clock.now += 100
        await work.steps()
        assert len(work.called) == 2
        assert (await work.now(begun)).webhook is None

    worked(test)


def test_a_batch_is_forgotten_when_its_time_is_over_and_not_before(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"))
        await done(work, begun, 1)
        await work.steps()
        await work.queue.hold_batch(begun.id, 0)  # a late sign of life of whoever ended it
        await work.steps()
        assert (await work.now(begun)).status is Status.COMPLETED
        work.clock.now += RULES.keep_seconds
        await work.steps()
        assert await work.queue.find("ann", begun.id) is None

    worked(test)


def test_files_whose_time_is_over_are_swept_but_not_from_under_a_batch(worked: Worked) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"))
        await work.queue.put_file(file(id=begun.input_file_id, expires_at=1500.0).complete(10))
        left = "file-" + "b" * 32
        await work.queue.reserve(file(id=left, expires_at=1500.0))
        with work.contents.writing(left):
            pass
        work.clock.now = 1500.0
        await work.keeper.sweep()
        assert work.contents.path(begun.input_file_id).exists()
        assert not work.contents.path(left).exists()
        await done(work, begun, 1)
        await work.steps()
        work.clock.now += RULES.max_window_seconds
        await work.keeper.sweep()
        assert not work.contents.path(begun.input_file_id).exists()

    worked(test)


def test_a_long_step_is_one_workers(worked: Worked, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(work: Work) -> None:
        begun = await work.begun(line("a"))
        await done(work, begun, 1)
        held = asyncio.Event()
        real = work.queue.hold_batch

        async def hold(batch_id: str, seconds: float) -> None:
            await real(batch_id, seconds)
            held.set()

        async def slow(*_: object) -> bool:
            await held.wait()
            return False

        folder = work.contents.path(begun.input_file_id).parents[1]
        short = Work(work.queue, folder, work.clock, replace(RULES, lease_seconds=0.03))
        monkeypatch.setattr("llmserve.jobs.keeper.Keeper._finish", slow)
        monkeypatch.setattr(work.queue, "hold_batch", hold)
        assert await short.keeper.step()

    worked(test)
