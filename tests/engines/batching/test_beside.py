"""How much background work rides along, on machines that differ in what it costs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.engines.batching.beside import ALONE_EVERY, BOUND, SHARE_EVERY, Beside
from llmserve.engines.batching.schedule.allowance import EVERYTHING, Allowance
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.stats import SchedulerStats


def counts(streams: int, background: int, waiting: int = 0) -> SchedulerStats:
    return SchedulerStats(
        running=streams + background,
        waiting=waiting,
        blocks_used=0,
        blocks_total=1,
        preemptions=0,
        background_running=background,
        background_waiting=waiting,
        background_begun=0,
    )


@dataclass
class Machine:
    """Steps of `streams` streams beside background rows, or prompts if these wait."""

    row: float = 0.0
    token: float = 0.0
    fixed: float = 0.0
    streams: int = 4
    background: int = 16
    waiting: int = 0
    noise: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    beside: Beside = field(default_factory=lambda: Beside(512))

    def run(self, steps: int) -> list[tuple[Allowance, float]]:
        """Each step's allowance, and how many times as long it took as without."""
        return [self._step() for _ in range(steps)]

    def _step(self) -> tuple[Allowance, float]:
        allowance = self.beside.allowance(counts(self.streams, self.background, self.waiting))
        rows = min(allowance.rows, self.background)
        tokens = min(allowance.tokens, 512) if self.waiting else 0
        ratio = 1.0 + rows * self.row + (self.fixed + tokens * self.token if tokens else 0.0)
        parts = [Slice(Sequence([1]), 0, 1, True)] * self.streams
        parts += [Slice(Sequence([1], is_background=True), 0, 1, True)] * rows
        if tokens:
            parts.append(Slice(Sequence([1], is_background=True), 0, tokens, False))
        seconds = 0.02 * ratio * (1.0 + self.rng.uniform(-self.noise, self.noise))
        self.beside.learn(StepPlan(tuple(parts)), seconds)
        return allowance, ratio


def test_alone_nothing_is_bound() -> None:
    beside = Beside(512)
    assert beside.allowance(counts(0, 9)) is EVERYTHING
    assert beside.allowance(counts(9, 0)) is EVERYTHING


def test_rows_that_cost_nothing_all_ride_soon() -> None:
    machine = Machine(row=0.0002, background=64)
    machine.run(100)
    ridden = [allowance.rows for allowance, _ in machine.run(ALONE_EVERY)]
    assert sum(rows >= 64 for rows in ridden) == ALONE_EVERY - 1


@pytest.mark.parametrize("row", [0.012, 0.03, 0.05])
def test_as_many_rows_ride_as_the_bound_allows(row: float) -> None:
    machine = Machine(row=row)
    machine.run(300)
    ratios = [ratio for allowance, ratio in machine.run(SHARE_EVERY) if allowance != EVERYTHING]
    assert max(ratios) <= BOUND + 1e-9
    assert max(ratios) >= 1.0 + (BOUND - 1.0) * 0.4


def test_what_costs_too_much_is_off_and_hardly_ever_tried_again() -> None:
    machine = Machine(row=0.3, token=0.05, waiting=3)
    machine.run(64)
    steps = machine.run(8192)
    delayed = [ratio for _, ratio in steps if ratio > BOUND]
    assert len(delayed) <= 0.01 * len(steps)
    assert sum(allowance == EVERYTHING for allowance, _ in steps) == 8192 // SHARE_EVERY


def test_a_prompt_that_costs_little_is_read_in_turns_with_rows() -> None:
    machine = Machine(row=0.01, token=0.002, waiting=2)
    machine.run(400)
    steps = [allowance for allowance, _ in machine.run(ALONE_EVERY * 4)]
    assert any(allowance.tokens > 8 for allowance in steps)
    assert any(allowance.rows > 4 for allowance in steps)
    assert not any(allowance.rows and allowance.tokens for allowance in steps)


def test_a_machine_that_becomes_slower_gets_less_and_a_faster_one_more() -> None:
    machine = Machine(row=0.01)
    machine.run(300)
    machine.row = 0.05
    machine.run(100)
    assert max(ratio for a, ratio in machine.run(100) if a != EVERYTHING) <= BOUND + 1e-9
    machine.row = 0.005
    machine.run(300)
    assert max(allowance.rows for allowance, _ in machine.run(100)) >= 8


def test_steps_in_which_others_read_a_prompt_teach_nothing() -> None:
    beside = Beside(512)
    slow = StepPlan((Slice(Sequence([1]), 0, 1, True), Slice(Sequence([1] * 99), 0, 99, True)))
    for _ in range(50):
        assert beside.allowance(counts(1, 4)).rows == 0
        beside.learn(slow, 9.0)


@settings(deadline=None, max_examples=60)
@given(
    row=st.floats(0.0, 0.5),
    token=st.floats(0.0, 0.1),
    fixed=st.floats(0.0, 5.0),
    waiting=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_few_steps_are_delayed_by_much_whatever_the_machine(
    row: float, token: float, fixed: float, waiting: int, seed: int
) -> None:
    machine = Machine(row, token, fixed, waiting=waiting, noise=0.05, rng=random.Random(seed))
    machine.run(200)
    steps = machine.run(2048)
    assert sum(ratio > 1.25 for _, ratio in steps) <= 0.012 * len(steps)
