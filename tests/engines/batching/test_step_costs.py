"""What is learnt of steps."""

from __future__ import annotations

import pytest

from llmserve.engines.batching.step_costs import Affine, DecodeCosts, PrefillCosts


def test_nothing_is_known_before_the_first_step() -> None:
    assert DecodeCosts().seconds(8) is None
    assert PrefillCosts().estimate is None


def test_decode_depends_on_how_many_stream_and_takes_the_nearest_size() -> None:
    costs = DecodeCosts()
    costs.learn(1, 0.010)
    costs.learn(32, 0.030)
    assert costs.seconds(1) == 0.010
    assert costs.seconds(2) == 0.010
    assert costs.seconds(16) == costs.seconds(33) == 0.030


def test_steps_of_one_size_are_booked_on_their_tokens() -> None:
    costs = PrefillCosts()
    for _ in range(3):
        costs.learn(100, 0.050)
    assert costs.estimate == Affine(0.0, pytest.approx(0.0005))


def test_two_sizes_tell_what_is_fixed() -> None:
    costs = PrefillCosts()
    for tokens in (100, 400):
        costs.learn(tokens, 0.020 + tokens * 1e-5)
    assert costs.estimate == Affine(pytest.approx(0.020), pytest.approx(1e-5))


def test_neither_part_is_ever_negative() -> None:
    falling, steep = PrefillCosts(), PrefillCosts()
    for tokens, seconds in ((100, 0.030), (400, 0.020)):
        falling.learn(tokens, seconds)
    for tokens, seconds in ((100, 0.001), (400, 0.020)):
        steep.learn(tokens, seconds)
    assert falling.estimate is not None
    assert falling.estimate.per_token == 0.0
    assert 0.020 < falling.estimate.fixed < 0.030
    assert steep.estimate is not None
    assert steep.estimate.fixed == 0.0
    assert steep.estimate.per_token > 0.0


def test_one_odd_decode_step_teaches_little_and_what_really_takes_longer_is_learnt() -> None:
    costs = DecodeCosts()
    for _ in range(5):
        costs.learn(8, 0.010)
    costs.learn(8, 30.0)
    assert costs.seconds(8) == pytest.approx(0.012)
    for _ in range(60):
        costs.learn(8, 0.5)
    assert costs.seconds(8) == pytest.approx(0.5, rel=0.01)


def test_what_was_long_ago_is_forgotten() -> None:
    costs = PrefillCosts()
    costs.learn(300, 5.0)  # something was compiled
    for step in range(200):
        tokens = 100 + step % 2 * 100
        costs.learn(tokens, 0.010 + tokens * 1e-5)
    assert costs.estimate == Affine(pytest.approx(0.010, rel=0.05), pytest.approx(1e-5, rel=0.05))
