"""The retry budget: a share of the requests, and a few in any case."""

from __future__ import annotations

from manual_clock import ManualClock

from llmserve.engines.remote.retry_budget import RESERVE, WINDOW_SECONDS, RetryBudget


def taken(budget: RetryBudget) -> int:
    count = 0
    while budget.take():
        count += 1
    return count


def test_a_share_of_the_last_requests_and_the_reserve() -> None:
    clock = ManualClock()
    budget = RetryBudget(0.1, clock)
    for _ in range(100):
        budget.request()
    assert taken(budget) == RESERVE + 10
    clock.now += WINDOW_SECONDS + 1
    assert taken(budget) == RESERVE


def test_a_share_of_nothing_is_nothing() -> None:
    budget = RetryBudget(0.0, ManualClock())
    budget.request()
    assert not budget.take()
