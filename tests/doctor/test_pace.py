from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.doctor.pace import Arrival, Flow, measure

EVENT = 30
LATENCY = 0.002


def stream(*parts: tuple[float, int]) -> list[Arrival]:
    """From (pause before it, events in it)."""
    times = accumulate(pause for pause, _ in parts)
    return [Arrival(t, EVENT * n) for t, (_, n) in zip(times, parts, strict=True)]


def flow(*parts: tuple[float, int], latency: float = LATENCY) -> Flow:
    return measure(stream(*parts), sum(n for _, n in parts)).flow(latency)


def test_one_lump_after_a_long_wait_is_held_to_the_end() -> None:
    assert flow((2.0, 64)) is Flow.AT_THE_END


def test_an_early_comment_does_not_hide_that_the_rest_came_at_the_end() -> None:
    assert flow((0.01, 1), (2.0, 40), (0.001, 24)) is Flow.AT_THE_END


def test_a_buffer_that_fills_and_empties_makes_lumps() -> None:
    assert flow(*[(0.8, 140)] * 4, (0.3, 40)) is Flow.LUMPS


def test_a_lump_in_many_chunks_is_one_lump() -> None:
    chunks = [(1.0, 1), *[(0.0001, 1)] * 20] * 3
    assert flow(*chunks) is Flow.LUMPS


def test_a_whole_answer_in_no_time_cannot_be_judged() -> None:
    assert flow((0.05, 64)) is Flow.TOO_FAST


def test_a_distant_server_is_not_taken_for_a_slow_one() -> None:
    assert flow((0.6, 64), latency=0.5) is Flow.TOO_FAST


@pytest.mark.parametrize("pause", [0.001, 0.01, 0.1, 2.0])
def test_one_event_at_a_time_is_steady_at_any_speed(pause: float) -> None:
    assert flow(*[(pause, 1)] * 64) is Flow.STEADY


def test_a_long_queue_before_steady_tokens_is_steady() -> None:
    assert flow((0.01, 1), (10.0, 1), *[(0.01, 1)] * 63) is Flow.STEADY


def test_a_slow_model_with_two_tokens_a_second_makes_no_lumps() -> None:
    assert flow(*[(0.5, 2)] * 30) is Flow.STEADY


def test_one_stall_of_the_reader_does_not_make_lumps() -> None:
    assert flow(*[(0.01, 1)] * 60, (0.4, 40), *[(0.01, 1)] * 60) is Flow.STEADY


def test_figures_are_those_of_the_stream() -> None:
    pace = measure(stream((0.1, 1), (0.001, 1), (0.5, 2), (0.2, 1)), 5)
    assert pace.num_bursts == 3
    assert pace.first_seconds == pytest.approx(0.1)
    assert pace.spread_seconds == pytest.approx(0.701)
    assert pace.largest_gap_seconds == pytest.approx(0.501)
    assert pace.share_at_end == pytest.approx(1 / 5)


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.integers(1, 10_000)),
        min_size=1,
        max_size=50,
    ),
    st.integers(0, 5000),
    st.floats(0, 1),
)
def test_any_arrivals_have_a_pace(
    parts: list[tuple[float, int]], num_events: int, latency: float
) -> None:
    times = accumulate(pause for pause, _ in parts)
    arrivals = [Arrival(t, n) for t, (_, n) in zip(times, parts, strict=True)]
    pace = measure(arrivals, num_events)
    assert 1 <= pace.num_bursts <= len(arrivals)
    assert 0 < pace.share_at_end <= 1
    assert pace.flow(latency) in Flow
