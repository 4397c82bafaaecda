"""Whatever several workers do on one queue: no line is two workers' at a time, or twice in the
output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_queues import Queues, good, running

from llmserve.jobs.line import LineKey
from llmserve.jobs.queue import JobQueue

LEASE: Final = 10.0
LINES: Final = 6
OWNERS: Final = ("one", "two", "three")

Step = tuple[str, str, float]
steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "hold", "finish", "finish", "put off", "give back"]),
        st.sampled_from(OWNERS),
        st.sampled_from([0.0, 1.0, 4.0, LEASE, 30.0]),
    ),
    min_size=5,
    max_size=40,
)


class Workers:
    """What each believes to have, and until when; a worker may believe it for too long."""

    def __init__(self, queue: JobQueue, queues: Queues) -> None:
        self._queue = queue
        self._clock = queues.clock
        self._leases: dict[LineKey, tuple[str, float]] = {}
        self._believed: dict[str, list[LineKey]] = {owner: [] for owner in OWNERS}
        self._results: list[int] = []

    async def do(self, step: Step) -> None:
        what, owner, seconds = step
        self._clock.now += seconds
        match what:
            case "take":
                await self._take(owner, 2)
            case "hold":
                await self._hold(owner)
            case "finish":
                await self._finish(owner)
            case "put off":
                await self._let_go(owner, is_later=True)
            case _:
                await self._let_go(owner, is_later=False)

    async def end(self) -> None:
        """One worker is left, and does the rest."""
        for _ in range(LINES + 1):
            self._clock.now += 100
            await self._take("one", LINES)
            while self._believed["one"]:
                await self._finish("one")
        assert sorted(self._results) == list(range(1, LINES + 1))
        kept = await self._queue.results("batch_1", 0, 100)
        assert kept == [good(number) for number in range(1, LINES + 1)]
        found = await self._queue.find("ann", "batch_1")
        assert found is not None
        assert (found.counts.completed, found.counts.failed) == (LINES, 0)

    async def _take(self, owner: str, limit: int) -> None:
        for held in await self._queue.take_lines(owner, limit, LEASE):
            _, until = self._leases.get(held.key, ("", 0.0))
            assert until <= self._clock.now, "another worker has it"
            assert held.key.number not in self._results, "it was done"
            self._leases[held.key] = (owner, self._clock.now + LEASE)
            self._believed[owner].append(held.key)

    async def _hold(self, owner: str) -> None:
        keys = list(dict.fromkeys(self._believed[owner]))
        kept = await self._queue.hold_lines(owner, keys, LEASE)
        for key in kept:
            assert self._leases[key][0] == owner
            self._leases[key] = (owner, self._clock.now + LEASE)
        self._believed[owner] = [key for key in keys if key in kept]

    async def _finish(self, owner: str) -> None:
        """Even if its lease is over."""
        if self._believed[owner]:
            key = self._believed[owner].pop()
            if await self._queue.finish(key, good(key.number)):
                self._results.append(key.number)
                self._leases.pop(key, None)

    async def _let_go(self, owner: str, *, is_later: bool) -> None:
        keys, self._believed[owner] = self._believed[owner], []
        for key in dict.fromkeys(keys):
            if self._leases.get(key, ("", 0.0))[0] == owner:
                del self._leases[key]
            if is_later:
                await self._queue.put_off(owner, key, 5.0)
            else:
                await self._queue.give_back(owner, [key])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_no_line_is_two_workers_or_twice_in_the_output(
    queues: Queues, history: Sequence[Step]
) -> None:
    async def test(queue: JobQueue) -> None:
        await queue.remove("batch_1")
        queues.clock.now = 1000.0
        await running(queue, LINES)
        workers = Workers(queue, queues)
        for step in history:
            await workers.do(step)
        await workers.end()

    queues.run(test)
