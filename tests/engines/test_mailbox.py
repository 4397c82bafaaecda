"""The mailbox: any thread posts, one coroutine reads, one event ends it."""

from __future__ import annotations

import asyncio
import threading

from llmserve.domain import Cancelled, Delta, Failed, Finish, FinishReason, Started, Usage
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
