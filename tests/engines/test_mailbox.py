"""The mailbox: any thread posts, one coroutine reads, one event ends it."""

from __future__ import annotations

import asyncio
import threading

from llmserve.domain import (
    Cancelled,
    Delta,
    Failed,
    Finish,
    FinishReason,
    Started,
    ToolCallDelta,
    Usage,
)
from llmserve.engines.mailbox import Mailbox
from llmserve.errors import GenerationFailed

END = Finish(FinishReason.STOP, Usage())


def test_the_first_terminal_event_wins_and_later_ones_are_dropped() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        assert mailbox.post(Cancelled(Usage()))
        assert not mailbox.post(END)
        assert not mailbox.post(Failed(GenerationFailed("x"), Usage()))
        assert not mailbox.post(Delta("late", (1,)))
        assert await mailbox.next() == Cancelled(Usage()) == mailbox.terminal

    asyncio.run(test())


def test_a_race_of_many_threads_to_end_it_has_one_winner() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        barrier, wins = threading.Barrier(8), []

        def end() -> None:
            barrier.wait()
            wins.append(mailbox.post(END))

        threads = [threading.Thread(target=end) for _ in range(8)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(10):
            assert await mailbox.next() is END
        for thread in threads:
            thread.join()
        assert wins.count(True) == 1

    asyncio.run(test())


def test_nothing_is_lost_between_a_fast_thread_and_a_slow_reader() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())

        def write() -> None:
            for i in range(2000):
                mailbox.post(Delta(f"{i} ", (i,)))
            mailbox.post(END)

        thread = threading.Thread(target=write)
        thread.start()
        text, ids = "", []
        async with asyncio.timeout(20):
            while isinstance(event := await mailbox.next(), Delta):
                text += event.text
                ids += event.token_ids
                await asyncio.sleep(0)
        thread.join()
        assert ids == list(range(2000))
        assert text == "".join(f"{i} " for i in range(2000))

    asyncio.run(test())


def test_deltas_merge_but_never_across_another_event() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        for event in (Delta("a", (1,)), Delta("b", (2,)), Started(1), Delta("c", (3,)), END):
            mailbox.post(event)
        received = [await mailbox.next() for _ in range(4)]
        assert received == [Delta("ab", (1, 2)), Started(1), Delta("c", (3,)), END]

    asyncio.run(test())


def test_a_cancelled_read_loses_nothing() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        reading = asyncio.create_task(mailbox.next())
        await asyncio.sleep(0)
        mailbox.post(END)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        async with asyncio.timeout(5):
            assert await mailbox.next() is END

    asyncio.run(test())


def test_posting_to_a_closed_loop_is_quiet() -> None:
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    assert mailbox.post(END)


def test_many_threads_lose_nothing_and_each_keeps_its_order() -> None:
    writers, each = 6, 300

    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())

        def write(writer: int) -> None:
            for i in range(each):
                assert mailbox.post(Delta(f"{writer}:{i} ", (writer * each + i,)))

        def write_all() -> None:
            threads = [threading.Thread(target=write, args=(w,)) for w in range(writers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            mailbox.post(END)

        writing = asyncio.create_task(asyncio.to_thread(write_all))
        text, ids = "", []
        async with asyncio.timeout(20):
            while isinstance(event := await mailbox.next(), Delta):
                text, ids = text + event.text, [*ids, *event.token_ids]
        await writing
        assert event is END
        assert sorted(ids) == list(range(writers * each))
        for writer in range(writers):
            assert [i for i in ids if i // each == writer] == sorted(ids)[writer * each :][:each]
        assert text.split() == [f"{i // each}:{i % each}" for i in ids]

    asyncio.run(test())


def test_a_reader_that_is_cancelled_again_and_again_loses_nothing() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())

        def write() -> None:
            for i in range(3000):
                mailbox.post(Delta("", (i,)))
            mailbox.post(END)

        writing = asyncio.create_task(asyncio.to_thread(write))
        ids: list[int] = []
        received: object = None
        async with asyncio.timeout(20):
            while received is not END:
                reading = asyncio.create_task(mailbox.next())
                await asyncio.sleep(0)
                reading.cancel()
                (received,) = await asyncio.gather(reading, return_exceptions=True)
                ids += received.token_ids if isinstance(received, Delta) else ()
        await writing
        assert ids == list(range(3000))

    asyncio.run(test())


def test_every_event_wakes_a_reader_that_is_already_waiting() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        read = threading.Semaphore(0)

        def write_one_at_a_time() -> None:
            for i in range(200):
                mailbox.post(Delta(str(i), (i,)))
                assert read.acquire(timeout=10)

        writing = asyncio.create_task(asyncio.to_thread(write_one_at_a_time))
        for i in range(200):
            assert await asyncio.wait_for(mailbox.next(), 10) == Delta(str(i), (i,))
            read.release()
        await writing

    asyncio.run(test())


def test_the_loop_is_woken_once_for_events_that_nobody_has_looked_at() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        wakes: list[object] = []

        class Counting:
            def call_soon_threadsafe(self, *call: object) -> None:
                wakes.append(call)
                loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]  # passed through

        mailbox = Mailbox(Counting())  # type: ignore[arg-type]  # all that it uses of a loop
        reading = asyncio.create_task(mailbox.next())
        await asyncio.sleep(0)
        for i in range(50):
            mailbox.post(Delta("x", (i,)))
        assert len(wakes) == 1
        assert await asyncio.wait_for(reading, 10) == Delta("x" * 50, tuple(range(50)))

    asyncio.run(test())


def test_merged_deltas_keep_the_order_of_what_was_said() -> None:
    async def test() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        call = ToolCallDelta(0, "{", "c", "f")
        said = [
            Delta("", (), reasoning="h"), Delta("", (), reasoning="m"), Delta("a", ()),
            Delta("b", ()), Delta("", (), calls=(call,)), Delta("", (), calls=(call,)),
            Delta("c", ()), Delta("", (), reasoning="again"),
        ]  # fmt: skip
        for delta in said:
            mailbox.post(delta)
        assert await mailbox.next() == Delta("ab", (), reasoning="hm", calls=(call, call))
        assert await mailbox.next() == Delta("c", ())
        assert await mailbox.next() == Delta("", (), reasoning="again")

    asyncio.run(test())
