"""The breaker: when it opens, who is let through after that."""

from __future__ import annotations

from manual_clock import ManualClock

from llmserve.engines.remote.breaker import (
    LEAST_FAILURES,
    MOST_OPEN_SECONDS,
    OPEN_SECONDS,
    WINDOW_SECONDS,
    Breaker,
)


def opened(clock: ManualClock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(LEAST_FAILURES):
        breaker.failed(is_trial=breaker.begin())
    return breaker


def test_a_few_failures_among_many_answers_do_not_open_it() -> None:
    breaker = Breaker(ManualClock())
    for number in range(60):
        is_trial = breaker.begin()
        (breaker.failed if number % 3 == 0 else breaker.succeeded)(is_trial=is_trial)
    assert breaker.is_closed


def test_failures_that_are_long_past_do_not_count() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(10):
        breaker.failed(is_trial=breaker.begin())
        clock.now += WINDOW_SECONDS / (LEAST_FAILURES - 1)
    assert breaker.is_closed


def test_one_request_is_on_trial_and_its_failure_doubles_the_wait() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    assert breaker.is_open
    assert breaker.retry_after_seconds == OPEN_SECONDS
    waits = []
    for _ in range(6):
        clock.now += breaker.retry_after_seconds
        assert not breaker.is_open
        assert breaker.begin()
        assert breaker.is_open, "only one"
        breaker.failed(is_trial=True)
        waits.append(breaker.retry_after_seconds)
    assert waits[:3] == [2 * OPEN_SECONDS, 4 * OPEN_SECONDS, 8 * OPEN_SECONDS]
    assert waits[-1] == MOST_OPEN_SECONDS


def test_a_good_trial_closes_it_and_forgets() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.now += OPEN_SECONDS
    breaker.succeeded(is_trial=breaker.begin())
    assert breaker.is_closed
    breaker.failed(is_trial=breaker.begin())
    assert breaker.is_closed


def test_a_trial_that_says_nothing_leaves_room_for_another() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.now += OPEN_SECONDS
    breaker.abandoned(is_trial=breaker.begin())
    assert not breaker.is_open
    assert not breaker.is_closed


def test_what_began_before_it_opened_changes_nothing() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    breaker.succeeded(is_trial=False)
    breaker.failed(is_trial=False)
    assert breaker.retry_after_seconds == OPEN_SECONDS
