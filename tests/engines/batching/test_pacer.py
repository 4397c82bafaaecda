"""How much prefill a step gets."""

from __future__ import annotations

from types import SimpleNamespace

from llmserve.engines.batching.pacer import LEAST_TOKENS, STRETCH, Pacer
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence


def plan(decoding: int, prefilling: int = 0) -> StepPlan:
    parts = [Slice(Sequence([1], 1), 0, 1, True)] * decoding
    if prefilling:
        parts.append(Slice(Sequence([1] * prefilling, prefilling), 0, prefilling, True))
    return StepPlan(tuple(parts))


def state(running: int, waiting: int) -> SimpleNamespace:
    return SimpleNamespace(running=running, waiting=waiting)


def taught(decode: float, per_token: float) -> Pacer:
    pacer = Pacer(256)
    for _ in range(60):
        pacer.learn(plan(8), decode)
        pacer.learn(plan(8, 64), decode + 64 * per_token)
    return pacer


def test_a_step_with_prefill_stays_under_a_multiple_of_one_without() -> None:
    budget = taught(0.010, 0.0005).prefill_budget(state(8, 1))
    assert budget == int((STRETCH - 1) * 0.010 / 0.0005)


def test_prefill_goes_on_however_slow_the_machine() -> None:
    assert taught(0.010, 0.1).prefill_budget(state(8, 1)) == LEAST_TOKENS


def test_a_fast_machine_takes_whole_steps() -> None:
    assert taught(0.010, 1e-6).prefill_budget(state(8, 1)) == 256


def test_what_a_plain_step_takes_depends_on_how_many_stream() -> None:
    pacer = Pacer(512)
    pacer.learn(plan(1), 0.008)
    pacer.learn(plan(32), 0.020)
    pacer.learn(plan(32, 100), 0.020 + 100 * 0.0002)
    few, many = (pacer.prefill_budget(state(running, 0)) for running in (1, 33))
    assert few == int((STRETCH - 1) * 0.008 / 0.0002)
    assert many == int((STRETCH - 1) * 0.020 / 0.0002)


def test_a_size_that_never_ran_is_taken_for_the_nearest() -> None:
    pacer = Pacer(512)
    pacer.learn(plan(1), 0.010)
    pacer.learn(plan(32), 0.030)
    pacer.learn(plan(0, 200), 0.010 + 200 * 0.0005)
    assert pacer.prefill_budget(state(2, 0)) == int((STRETCH - 1) * 0.010 / 0.0005)
    assert pacer.prefill_budget(state(16, 0)) == int((STRETCH - 1) * 0.030 / 0.0005)


def test_where_many_wait_for_few_the_prompts_come_first() -> None:
    pacer = taught(0.010, 0.0005)
    assert pacer.prefill_budget(state(1, 5)) == 256
    assert pacer.prefill_budget(state(0, 1)) == 256


def test_nothing_is_held_back_before_anything_is_known() -> None:
    assert Pacer(256).prefill_budget(state(8, 1)) == 256
