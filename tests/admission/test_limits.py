"""Limits under a manual clock, in memory and in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from admission.team import enter, team
from manual_clock import ManualClock

from llmserve.admission.limits import Limiter, Quota, Remainder
from llmserve.clock import AwakeClock
from llmserve.domain import Caller
from llmserve.errors import InvalidRequest, RateLimited


def test_over_requests_per_minute_says_so_and_when(limiter: Limiter, machine: ManualClock) -> None:
    caller = team(requests=6)
    for _ in range(6):
        enter(limiter, caller).close(100)
    machine.now += 4
    with pytest.raises(RateLimited, match="key team-a is over its limit of 6 requests per minute"
                       ) as refused:  # fmt: skip
        enter(limiter, caller)
    assert refused.value.retry_after_seconds == pytest.approx(6)
    assert (refused.value.status, refused.value.param) == (429, None)
    machine.now += refused.value.retry_after_seconds or 0
    enter(limiter, caller)
    with pytest.raises(RateLimited):
        enter(limiter, caller)


def test_over_tokens_per_minute_waits_for_the_prompt(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(tokens=600)
    enter(limiter, caller, tokens=600)
    with pytest.raises(RateLimited, match="600 tokens per minute") as refused:
        enter(limiter, caller, tokens=100)
    assert refused.value.retry_after_seconds == pytest.approx(10)
    machine.now += 10
    enter(limiter, caller, tokens=100)


def test_an_answer_may_put_the_caller_into_debt(limiter: Limiter, machine: ManualClock) -> None:
    caller = team(tokens=60)
    admission = enter(limiter, caller, tokens=10)
    machine.now += 5
    admission.close(tokens=155)
    with pytest.raises(RateLimited) as refused:
        enter(limiter, caller, tokens=1)
    assert refused.value.retry_after_seconds == pytest.approx(155 - 55 + 1)


def test_closing_twice_charges_and_frees_once(limiter: Limiter) -> None:
    caller = team(tokens=100, concurrency=2)
    first, _second = enter(limiter, caller), enter(limiter, caller)
    for _ in range(3):
        first.close(10)
    quota = limiter.quota(caller)
    assert quota is not None
    assert quota.tokens == Remainder(100, 88, pytest.approx(7.2))
    enter(limiter, caller)
    with pytest.raises(RateLimited):
        enter(limiter, caller)


def test_over_concurrency_says_so_and_the_end_of_one_lets_the_next_in(limiter: Limiter) -> None:
    caller = team(concurrency=2)
    admission = enter(limiter, caller, requests=2)
    with pytest.raises(RateLimited, match="its limit of 2 open requests") as refused:
        enter(limiter, caller)
    assert refused.value.retry_after_seconds
    admission.close(5)
    enter(limiter, caller)
    enter(limiter, caller)


def test_a_refused_request_costs_nothing(limiter: Limiter) -> None:
    caller = team(requests=10, tokens=100, concurrency=2)
    enter(limiter, caller, tokens=50)
    before = limiter.quota(caller)
    for requests, tokens in ((2, 10), (1, 60)):
        with pytest.raises(RateLimited):
            enter(limiter, caller, requests, tokens)
    assert limiter.quota(caller) == before
    enter(limiter, caller, tokens=50)


def test_of_several_limits_the_longest_wait_is_told(limiter: Limiter) -> None:
    caller = team(requests=60, tokens=60, concurrency=1)
    enter(limiter, caller, tokens=60)
    with pytest.raises(RateLimited, match="tokens per minute"):
        enter(limiter, caller, tokens=30)


@pytest.mark.parametrize(
    ("caller", "requests", "tokens", "told"),
    [
        (team(requests=3), 4, 1, "may make 3 per minute"),
        (team(concurrency=3), 4, 1, "may make 3 at a time"),
        (team(tokens=1000), 1, 1001, "prompt has 1,001 tokens and key team-a may use 1,000"),
    ],
)
def test_what_never_fits_is_no_matter_of_waiting(
    limiter: Limiter, caller: Caller, requests: int, tokens: int, told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told):
        enter(limiter, caller, requests, tokens)


def test_prompts_whose_tokens_nobody_knows_yet_are_charged_later(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=6, tokens=60)
    admission = limiter.admit(caller, requests=2)
    admission.charge(50)
    assert limiter.quota(caller) == Quota(Remainder(6, 4, 20.0), Remainder(60, 10, 50.0))
    with pytest.raises(RateLimited, match="tokens per minute; try again in 1 s"):
        admission.charge(11)
    with pytest.raises(InvalidRequest, match="prompt has 61 tokens"):
        admission.charge(61)
    with pytest.raises(RateLimited, match="tokens per minute; try again in 1 s"):
        limiter.admit(caller, requests=1, prompt_tokens=11)
    admission.close(10)
    with pytest.raises(RateLimited, match="tokens per minute; try again in 2 s"):
        limiter.admit(caller, requests=2)
    machine.now += 2
    limiter.admit(caller, requests=2).close()


def test_a_refund_gives_the_requests_back_and_no_more(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=6, concurrency=1)
    admission = limiter.admit(caller, requests=1)
    admission.refund()
    with pytest.raises(RateLimited, match="open requests"):
        limiter.admit(caller, requests=1)
    admission.close()
    assert limiter.quota(caller) == Quota(Remainder(6, 6, 0.0), None)
    admission = limiter.admit(caller, requests=1)
    machine.now += 60
    admission.refund()
    admission.refund()
    admission.close()
    admission.refund()
    assert limiter.quota(caller) == Quota(Remainder(6, 6, 0.0), None)
    Limiter(None).admit(team(), requests=1).refund()


def test_a_clock_that_goes_back_gives_nothing_and_blocks_nobody(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=60)
    enter(limiter, caller, requests=60)
    machine.now -= 86_400
    with pytest.raises(RateLimited) as refused:
        enter(limiter, caller)
    assert refused.value.retry_after_seconds == pytest.approx(1)
    machine.now += 1
    enter(limiter, caller)


def test_a_pause_fills_no_bucket(limiter: Limiter, clock: AwakeClock, machine: ManualClock) -> None:
    caller = team(requests=60)
    with clock.ticking():
        enter(limiter, caller, requests=60)
        machine.now += 3600
        with pytest.raises(RateLimited):  # before the tick that notices
            enter(limiter, caller, requests=2)
        clock.tick()
        with pytest.raises(RateLimited):
            enter(limiter, caller, requests=2)
        for _ in range(4):
            machine.now += 0.5
            clock.tick()
        enter(limiter, caller, requests=2)


def test_time_before_a_pause_still_counts(
    limiter: Limiter, clock: AwakeClock, machine: ManualClock
) -> None:
    caller = team(requests=60)
    with clock.ticking():
        enter(limiter, caller, requests=60)
        for _ in range(60):
            machine.now += 0.5
            clock.tick()
        machine.now += 3600
        clock.tick()
        enter(limiter, caller, requests=30)
        with pytest.raises(RateLimited):
            enter(limiter, caller, requests=2)


def test_other_limits_hold_at_once(limiter: Limiter, machine: ManualClock) -> None:
    enter(limiter, team(requests=60), requests=20)
    lower = team(requests=10)
    enter(limiter, lower, requests=10)
    with pytest.raises(RateLimited, match="10 requests"):
        enter(limiter, lower)
    machine.now += 1
    enter(limiter, team(requests=600), requests=10)
    with pytest.raises(RateLimited, match="1 open"):
        enter(limiter, team(concurrency=1))
    enter(limiter, team())


def test_a_higher_limit_shortens_the_wait_of_who_is_in_debt(
    limiter: Limiter, machine: ManualClock
) -> None:
    enter(limiter, team(tokens=1000)).close(tokens=100_000)
    with pytest.raises(RateLimited) as refused:
        enter(limiter, team(tokens=1000))
    assert (refused.value.retry_after_seconds or 0) > 3600
    machine.now += 6
    enter(limiter, team(tokens=1_000_000))


def test_a_limit_lowered_and_raised_while_an_answer_runs_charges_it_rightly(
    limiter: Limiter,
) -> None:
    admission = enter(limiter, team(tokens=100), tokens=10)
    enter(limiter, team(tokens=1000), tokens=10).close()
    admission.close(tokens=50)
    quota = limiter.quota(team(tokens=1000))
    assert quota is not None
    assert quota.tokens is not None
    assert quota.tokens.remaining == 30


def test_a_caller_without_limits_leaves_no_trace(tmp_path: Path) -> None:
    limiter = Limiter(tmp_path / "limits")
    for _ in range(3):
        enter(limiter, Caller()).close(7)
    assert limiter.quota(Caller()) is None
    assert not (tmp_path / "limits").exists()


def test_the_quota_tells_what_is_left_and_when_all_is_back(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=60, tokens=6000)
    enter(limiter, caller, requests=3, tokens=1500)
    machine.now += 1.5
    quota = limiter.quota(caller)
    assert quota is not None
    assert quota.requests == Remainder(60, 58, pytest.approx(1.5))
    assert quota.tokens == Remainder(6000, 4650, pytest.approx(13.5))
    assert limiter.quota(team(concurrency=1)) is None


def test_what_was_charged_too_much_comes_back_but_never_more_than_the_limit(
    limiter: Limiter,
) -> None:
    caller = team(tokens=1000)
    admission = limiter.admit(caller, requests=1)
    admission.charge(400)
    admission.close(tokens=-300)
    quota = limiter.quota(caller)
    assert quota is not None
    assert quota.tokens is not None
    assert quota.tokens.remaining == 900
    limiter.admit(caller, requests=1).close(tokens=-5000)
    quota = limiter.quota(caller)
    assert quota is not None
    assert quota.tokens is not None
    assert quota.tokens.remaining == 1000
