"""What every queue does, in SQLite and in Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from job_queues import (
    LEASE,
    QUOTAS,
    Queues,
    batch,
    file,
    good,
    lines,
    numbers,
    running,
    taken,
)

from llmserve.errors import IdempotencyKeyReused, QuotaExceeded
from llmserve.jobs.batch import Counts, Kind, Status, Webhook
from llmserve.jobs.batch_file import Purpose
from llmserve.jobs.line import HeldLine, InputLine, LineKey, Result
from llmserve.jobs.queue import Depth, Idempotency, JobQueue, Page


def test_a_file_is_found_by_its_own_caller_when_it_is_complete(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await queue.reserve(file())
        assert await queue.find_file("ann", "file-1") is None
        await queue.put_file(file().complete(80))
        assert await queue.find_file("ann", "file-1") == file().complete(80)
        assert await queue.find_file("bob", "file-1") is None
        assert await queue.find_file("ann", "file-2") is None
        queues.clock.now = 2000.0
        assert await queue.find_file("ann", "file-1") is None
        assert await queue.expired_files(10) == [file().complete(80)]
        assert await queue.forget_file("file-1")
        assert not await queue.forget_file("file-1")
        assert await queue.expired_files(10) == []

    queues.run(test)


def test_files_have_room_by_key_and_in_all(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await queue.reserve(file(1, size=30_000))
        with pytest.raises(QuotaExceeded, match="30,000 of 50,000"):
            await queue.reserve(file(2, size=20_001))
        await queue.put_file(file(1).complete(10_000))
        await queue.reserve(file(2, size=40_000))
        await queue.reserve(file(3, size=50_000, caller="bob"))
        with pytest.raises(QuotaExceeded, match="100,000 of 100,000"):
            await queue.reserve(file(4, size=1, caller="eve"))
        await queue.forget_file("file-2")
        await queue.reserve(file(4, size=1, caller="eve"))
        with pytest.raises(QuotaExceeded):
            await queue.reserve(file(5, size=40_000))

    queues.run(test)


def test_small_files_count_so_much_that_they_cannot_be_many(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        for number in range(QUOTAS.key_bytes // 4096):
            await queue.reserve(file(number, size=1))
        with pytest.raises(QuotaExceeded):
            await queue.reserve(file(99, size=1))

    queues.run(test)


def test_answers_count_where_bytes_are_bounded(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        started = await running(queue, 1)
        await queue.finish(LineKey("batch_1", 1), Result(1, True, b"x" * 45_000))
        with pytest.raises(QuotaExceeded, match="45,000 of 50,000"):
            await queue.reserve(file(1, size=6000))
        ended = started.at(Status.COMPLETED, 1.0)
        assert await queue.update(ended, Status.IN_PROGRESS, 9999.0, clears=True)
        await queue.reserve(file(1, size=6000))

    queues.run(test)


def test_files_are_listed_in_pages(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        for number in range(5):
            await queue.put_file(file(number).complete(10))
        await queue.put_file(file(5, purpose=Purpose.OUTPUT).complete(10))
        await queue.put_file(file(6, caller="bob").complete(10))
        await queue.reserve(file(7))

        async def ids(page: Page, *purposes: Purpose) -> list[str]:
            return [one.id for one in await queue.list_files("ann", purposes, page)]

        both = (Purpose.BATCH, Purpose.OUTPUT)
        assert await ids(Page(100), *both) == [f"file-{n}" for n in (5, 4, 3, 2, 1, 0)]
        assert await ids(Page(2), *both) == ["file-5", "file-4", "file-3"]
        assert await ids(Page(2, after="file-4"), Purpose.BATCH) == ["file-3", "file-2", "file-1"]
        oldest = Page(1, after="file-1", is_ascending=True)
        assert await ids(oldest, Purpose.BATCH) == ["file-2", "file-3"]
        assert await ids(Page(9), Purpose.OUTPUT) == ["file-5"]
        assert await ids(Page(9, after="nothing"), *both) == []

    queues.run(test)


def test_a_batch_comes_back_as_it_was(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        whole = batch(
            metadata={"a": "ü"},
            output_seconds=3600.0,
            webhook=Webhook("https://x.example/y", 2),
            errors=({"code": "c", "message": "m", "line": 1, "param": None},),
            outcome=Status.CANCELLED,
            output_id="o",
            error_id="e",
            times={"in_progress_at": 3.0},
        )
        await queue.create(whole, 0, None)
        assert await queue.find("ann", "batch_1") == whole
        assert await queue.find("bob", "batch_1") is None
        assert await queue.find("ann", "batch_2") is None

    queues.run(test)


def test_the_same_creation_makes_one_batch(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        key = Idempotency("k", "digest")
        first = await queue.create(batch(1), 0, key)
        assert await queue.create(batch(2), 0, key) == first
        with pytest.raises(IdempotencyKeyReused):
            await queue.create(batch(3), 0, Idempotency("k", "other"))
        assert (await queue.create(batch(4, caller="bob"), 0, key)).id == "batch_4"
        assert (await queue.create(batch(5), 0, Idempotency("l", "digest"))).id == "batch_5"
        await queue.remove("batch_1")
        assert (await queue.create(batch(6), 0, key)).id == "batch_6"

    queues.run(test)


def test_open_batches_and_requests_are_bounded_by_key(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        for number in range(3):
            await queue.create(batch(number), 0, None)
        with pytest.raises(QuotaExceeded, match="3 open batches"):
            await queue.create(batch(9), 0, None)
        for number in range(10, 14):
            await queue.create(batch(number, kind=Kind.CHAT), 0, None)
        with pytest.raises(QuotaExceeded, match="4 open requests"):
            await queue.create(batch(19, kind=Kind.CHAT), 0, None)
        await queue.create(batch(20, caller="bob"), 0, None)
        ended = batch(0).at(Status.FAILED, 1.0)
        assert await queue.update(ended, Status.VALIDATING, 5000.0)
        await queue.create(batch(9), 0, None)

    queues.run(test)


def test_lines_of_open_batches_are_bounded_by_key(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 60, 1)
        second = (await queue.create(batch(2), 0, None)).at(Status.IN_PROGRESS, 1.0)
        with pytest.raises(QuotaExceeded, match="have 60 lines"):
            await queue.start(second, lines(41), 5000.0)
        assert await queue.start(second, lines(40), 5000.0)
        await running(queue, 100, 3, "bob")

    queues.run(test)


def test_batches_are_listed_in_pages_without_single_requests(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        for number in range(3):
            await queue.create(batch(number), 0, None)
        await queue.create(batch(3, kind=Kind.CHAT), 0, None)
        await queue.create(batch(4, caller="bob"), 0, None)

        async def ids(page: Page) -> list[str]:
            return [one.id for one in await queue.list_batches("ann", page)]

        assert await ids(Page(10)) == ["batch_2", "batch_1", "batch_0"]
        assert await ids(Page(1)) == ["batch_2", "batch_1"]
        assert await ids(Page(1, after="batch_2")) == ["batch_1", "batch_0"]
        assert await ids(Page(1, after="batch_0")) == []

    queues.run(test)


def test_a_file_is_in_use_while_its_batch_is_open(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        started = await running(queue, 1)
        assert await queue.uses_file("ann", "file-1")
        assert not await queue.uses_file("ann", "file-")
        assert not await queue.uses_file("bob", "file-1")
        await queue.update(started.at(Status.CANCELLED, 1.0), Status.IN_PROGRESS, 9.0)
        assert not await queue.uses_file("ann", "file-1")

    queues.run(test)


def test_a_batch_that_is_due_is_taken_by_one_worker(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await queue.create(batch(), 1000.0, None)
        async with queues.open() as other:
            first = await queue.take_batch(LEASE)
            assert first == batch()
            assert await other.take_batch(LEASE) is None
            queues.clock.now += LEASE / 2
            await queue.hold_batch("batch_1", LEASE)
            queues.clock.now += LEASE / 2
            assert await other.take_batch(LEASE) is None
            queues.clock.now += LEASE
            assert await other.take_batch(LEASE) == batch()

    queues.run(test)


def test_a_batch_changes_only_from_the_state_in_which_it_was_seen(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        started = await running(queue, 2)
        cancelling = started.at(Status.CANCELLING, 5.0)
        assert await queue.update(cancelling, Status.IN_PROGRESS, 1000.0)
        assert not await queue.update(started, Status.IN_PROGRESS, 1000.0)
        assert not await queue.start(started, lines(2), 1.0)
        found = await queue.find("ann", "batch_1")
        assert found == replace(cancelling, counts=Counts(2))
        assert await taken(queue, "w") == []
        assert not await queue.update(batch(7), Status.VALIDATING, 1.0)

    queues.run(test)


def test_each_line_is_one_workers_until_its_lease_is_over(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 5)
        first = await taken(queue, "one", 2)
        assert numbers(first) == [1, 2]
        assert first[0] == HeldLine(
            LineKey("batch_1", 1), "ann", "file-1", InputLine(1, 50, 50, "ü line 1"), 0, 0
        )
        second = await taken(queue, "two")
        assert numbers(second) == [3, 4, 5]
        assert await taken(queue, "three") == []
        queues.clock.now += LEASE / 2
        keys = [one.key for one in first]
        assert await queue.hold_lines("one", keys, LEASE) == set(keys)
        assert await queue.hold_lines("two", keys, LEASE) == set()
        queues.clock.now += LEASE / 2
        again = await taken(queue, "three")
        assert numbers(again) == [3, 4, 5]
        assert {(one.attempts, one.losses) for one in again} == {(0, 1)}
        lost = [one.key for one in second]
        assert await queue.hold_lines("two", lost, LEASE) == set()

    queues.run(test)


def test_a_line_that_is_put_off_comes_back_later(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 1)
        [held] = await taken(queue, "one")
        await queue.put_off("two", held.key, 0)
        assert await taken(queue, "two") == [], "it is not theirs"
        await queue.put_off("one", held.key, 30)
        queues.clock.now += 29
        assert await taken(queue, "one") == []
        queues.clock.now += 1
        [again] = await taken(queue, "two")
        assert (again.attempts, again.losses) == (1, 0)

    queues.run(test)


def test_a_line_that_is_given_back_is_there_at_once_and_nothing_is_counted(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 2)
        held = await taken(queue, "one")
        await queue.give_back("one", [one.key for one in held])
        again = await taken(queue, "two")
        assert numbers(again) == [1, 2]
        assert {(one.attempts, one.losses) for one in again} == {(0, 0)}
        await queue.give_back("one", [one.key for one in held])
        assert await taken(queue, "one") == []

    queues.run(test)


def test_the_first_result_of_a_line_counts_whoever_ran_it(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 3)
        await taken(queue, "one")
        queues.clock.now += LEASE
        await taken(queue, "two")
        assert await queue.finish(LineKey("batch_1", 2), good(2))
        assert not await queue.finish(LineKey("batch_1", 2), Result(2, False, b"other"))
        assert await queue.finish(LineKey("batch_1", 1), Result(1, False, b"bad"))
        found = await queue.find("ann", "batch_1")
        assert found is not None
        assert found.counts == Counts(3, 1, 1)
        assert await queue.results("batch_1", 0, 10) == [Result(1, False, b"bad"), good(2)]
        assert await queue.results("batch_1", 1, 10) == [good(2)]
        assert await queue.results("batch_1", 0, 1) == [Result(1, False, b"bad")]
        assert await queue.unfinished("batch_1", 0, 10) == lines(3)[2:]
        queues.clock.now += LEASE
        assert numbers(await taken(queue, "three")) == [3]

    queues.run(test)


def test_after_its_last_line_a_batch_is_due(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 2)
        assert await queue.depth() == Depth(1, 2)
        await queue.finish(LineKey("batch_1", 1), good(1))
        assert await queue.take_batch(LEASE) is None
        await queue.finish(LineKey("batch_1", 2), good(2))
        due = await queue.take_batch(LEASE)
        assert due is not None
        assert due.counts.are_all_in
        assert await queue.depth() == Depth(1, 0)

    queues.run(test)


def test_no_result_is_kept_when_the_batch_is_no_longer_in_progress(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        started = await running(queue, 2)
        [held] = await taken(queue, "one", 1)
        await queue.update(started.at(Status.CANCELLING, 1.0), Status.IN_PROGRESS, 1.0)
        assert not await queue.finish(held.key, good(1))
        assert await queue.hold_lines("one", [held.key], LEASE) == set()
        assert await queue.results("batch_1", 0, 10) == []

    queues.run(test)


def test_batches_take_turns(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 50, 1)
        assert len(await taken(queue, "one", 5)) == 5
        queues.clock.now += 1
        await running(queue, 3, 2, "bob")
        order = []
        for _ in range(4):
            queues.clock.now += 0.1
            [held] = await taken(queue, "one", 1)
            order.append(held.key.batch_id)
        assert order == ["batch_2", "batch_1", "batch_2", "batch_1"]

    queues.run(test)


def test_removal_leaves_nothing(queues: Queues) -> None:
    async def test(queue: JobQueue) -> None:
        await running(queue, 2)
        await queue.finish(LineKey("batch_1", 1), good(1))
        await queue.remove("batch_1")
        await queue.remove("batch_1")
        assert await queue.find("ann", "batch_1") is None
        assert await queue.results("batch_1", 0, 10) == []
        assert await queue.unfinished("batch_1", 0, 10) == []
        assert await queue.depth() == Depth(0, 0)
        assert not await queue.finish(LineKey("batch_1", 2), good(2))
        queues.clock.now = 1e9
        assert await queue.take_batch(LEASE) is None

    queues.run(test)
