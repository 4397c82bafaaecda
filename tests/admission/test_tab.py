"""The arithmetic of a tab."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.admission.holder import Holder
from llmserve.admission.tab import Tab, TokenBucket


@pytest.mark.parametrize("damage", ["empty", "short", "magic", "rows", "nan"])
def test_a_damaged_tab_begins_anew(damage: str) -> None:
    whole = Tab(TokenBucket(1.0, 2.0, 3.0), TokenBucket(), {Holder(1, 2, 3): 4}).to_bytes()
    broken = {
        "empty": b"",
        "short": whole[:40],
        "magic": b"x" + whole[1:],
        "rows": whole[:-1],
        "nan": whole[:8] + struct.pack("<d", float("nan")) + whole[16:],
    }
    assert Tab.from_bytes(broken[damage]) == Tab()


def test_a_clock_that_goes_back_neither_fills_nor_stops_the_bucket() -> None:
    bucket = TokenBucket(level=0.0, at=1000.0, capacity=60.0)
    bucket.refill(400.0)
    assert bucket.level == 0
    bucket.refill(410.0)
    assert bucket.level == pytest.approx(10)


def test_a_bucket_never_used_is_full_and_no_bucket_runs_over() -> None:
    bucket = TokenBucket()
    bucket.refill(1e9)
    bucket.resize(10)
    assert bucket.level == 10
    bucket.refill(2e9)
    assert bucket.level == 10


def test_a_lower_limit_takes_the_surplus_away_and_a_higher_one_fills_faster() -> None:
    bucket = TokenBucket(level=50.0, at=0.0, capacity=60.0)
    bucket.resize(6)
    assert bucket.level == 6
    bucket.level = 0
    bucket.resize(600)
    assert bucket.seconds_until(10) == pytest.approx(1)


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.integers(1, 5)), max_size=80),
    st.integers(5, 50),
)
def test_no_more_is_let_in_than_the_bucket_held_and_time_brought(
    steps: list[tuple[float, int]], capacity: int
) -> None:
    now, admitted, brought = 1e9, 0, 0.0
    bucket = TokenBucket()
    for elapsed, needed in steps:
        now += elapsed
        brought += max(0.0, elapsed) * capacity / 60
        bucket.refill(now)
        bucket.resize(capacity)
        wait = bucket.seconds_until(needed)
        if wait == 0:
            bucket.level -= needed
            admitted += needed
        else:
            later = TokenBucket(bucket.level, bucket.at, bucket.capacity)
            later.refill(now + wait)
            assert later.seconds_until(needed) == 0, "who waits as told is let in"
    assert admitted <= capacity + brought + 1e-3


def test_bytes_and_back() -> None:
    tab = Tab(TokenBucket(1.5, 2.5, 3.5), TokenBucket(-4.5, 5.5, 6.5), {Holder(7, 8, 9): 10})
    assert Tab.from_bytes(tab.to_bytes()) == tab
    assert len(tab.to_bytes()) == 64 + 32
    longer = tab.to_bytes() + b"left over from more rows"
    assert Tab.from_bytes(longer) == tab
