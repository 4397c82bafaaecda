"""The back-off of a worker that keeps failing."""

from __future__ import annotations

from llmserve.workers.worker_slot import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, WorkerSlot


def test_the_delay_doubles_up_to_the_longest() -> None:
    slot = WorkerSlot()
    delays = []
    for _ in range(10):
        slot.failures += 1
        delays.append(slot.back_off(now=100.0))
        assert slot.start_at == 100.0 + delays[-1]
    assert delays[:3] == [FIRST_DELAY_SECONDS, 2 * FIRST_DELAY_SECONDS, 4 * FIRST_DELAY_SECONDS]
    assert delays[-1] == LONGEST_DELAY_SECONDS


def test_years_of_failing_are_no_delay_of_ages() -> None:
    assert WorkerSlot(failures=10_000).back_off(now=0.0) == LONGEST_DELAY_SECONDS
