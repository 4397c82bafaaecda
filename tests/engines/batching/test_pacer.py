"""How much prefill a step gets."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.engines.batching.pacer import (
    LEAST_TOKENS,
    LEAST_TOKENS_ON_GPU,
    PROBE_EVERY,
    STRETCH,
    Pacer,
)
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.schedule.stats import SchedulerStats


def plan(decoding: int, prefilling: int = 0) -> StepPlan:
    parts = [Slice(Sequence([1]), 0, 1, True)] * decoding
    if prefilling:
        parts.append(Slice(Sequence([1]), 0, prefilling, True))
    return StepPlan(tuple(parts))


def state(running: int, waiting: int, background: int = 0) -> SchedulerStats:
    return SchedulerStats(
        running + background, waiting + background, 0, 1, 0, background, background, 0
    )


@dataclass(frozen=True)
class Machine:
    """What steps take: `decode` without prefill, `decode + fixed + tokens × per_token` with it."""

    decode: float
    fixed: float
    per_token: float

    def seconds(self, tokens: int) -> float:
        return self.decode + (self.fixed + tokens * self.per_token if tokens else 0.0)

    def run(
        self, pacer: Pacer, prompt_tokens: int, noise: random.Random | None = None
    ) -> list[int]:
        """Prompt tokens of each step until a prompt beside 8 streams is read; 4 decode steps come
        first."""
        for _ in range(4):
            self._step(pacer, 0, noise)
        sizes = []
        while prompt_tokens:
            sizes.append(min(prompt_tokens, pacer.prefill_budget(state(8, 0))))
            prompt_tokens -= sizes[-1]
            self._step(pacer, sizes[-1], noise)
        return sizes

    def _step(self, pacer: Pacer, tokens: int, noise: random.Random | None) -> None:
        factor = noise.uniform(0.9, 1.1) if noise else 1.0
        pacer.learn(plan(8, tokens), self.seconds(tokens) * factor)


MACHINES = st.builds(
    Machine,
    decode=st.floats(0.001, 0.080),
    fixed=st.floats(0.0, 0.080),
    per_token=st.floats(1e-7, 1e-2),
)
KINDS = [
    pytest.param(512, LEAST_TOKENS, id="cpu"),
    pytest.param(4096, LEAST_TOKENS_ON_GPU, id="gpu"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("most", "least"), KINDS)
@settings(max_examples=200, deadline=None)
@given(machine=MACHINES)
def test_prefill_keeps_half_of_its_throughput_and_streams_keep_their_bound(
    machine: Machine, most: int, least: int
) -> None:
    pacer = Pacer(most, least)
    machine.run(pacer, 3 * most)  # what it learns from
    sizes = machine.run(pacer, 64 * most)[:-1]
    rate = sum(sizes) / sum(machine.seconds(size) for size in sizes)
    assert rate >= 0.5 * most / machine.seconds(most)
    bound = max(STRETCH * machine.seconds(1), machine.seconds(least))
    assert max(machine.seconds(size) for size in sizes) <= bound * 1.01


@pytest.mark.parametrize(
    ("machine", "best"),
    [
        # As an H200 measured them: Qwen3-0.6B and Llama-3.1-8B beside 8 streams.
        pytest.param(Machine(0.0046, 0.024, 1.2e-6), 1, id="qwen3-0.6b"),
        pytest.param(Machine(0.0081, 0.030, 20e-6), 1, id="llama-8b"),
    ],
)
def test_a_prompt_on_a_gpu_is_not_read_in_slivers(machine: Machine, best: int) -> None:
    pacer = Pacer(4096, LEAST_TOKENS_ON_GPU)
    machine.run(pacer, 500)
    assert len(machine.run(pacer, 2000)) <= best + 1
    assert len(machine.run(pacer, 2000)) == best


@dataclass(frozen=True)
class Replaying(Machine):
    """Steps with up to 1,024 prompt tokens are replayed, where prompts are `is_short`."""

    is_short: bool = True

    def seconds(self, tokens: int) -> float:
        if tokens > 1024 or not self.is_short:
            return super().seconds(tokens)
        return self.decode + (0.001 + tokens * self.per_token if tokens else 0.0)


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(Replaying(0.0046, 0.024, 4e-6), id="qwen3-0.6b"),
        pytest.param(Replaying(0.0081, 0.024, 24e-6), id="llama-8b"),
    ],
)
def test_beside_streams_a_prompt_is_read_in_steps_that_are_replayed(machine: Replaying) -> None:
    pacer = Pacer(4096, LEAST_TOKENS_ON_GPU, 1024)
    pacer.learn(plan(0, 4096), machine.seconds(4096))  # alone it is read at once
    machine.run(pacer, 500)
    assert max(machine.run(pacer, 20_000)) <= 1024
    long = dataclasses.replace(machine, is_short=False)  # no graph takes its context
    long.run(pacer, 20_000)
    assert max(long.run(pacer, 20_000)) > 1024
    for _ in range(30):
        machine.run(pacer, 500)
    assert max(machine.run(pacer, 20_000)) <= 1024


@settings(max_examples=50, deadline=None)
@given(machine=MACHINES, seed=st.integers(0, 1000))
def test_noise_does_not_make_it_collapse(machine: Machine, seed: int) -> None:
    noise = random.Random(seed)
    pacer = Pacer(4096, LEAST_TOKENS_ON_GPU)
    machine.run(pacer, 20_000, noise)
    sizes = machine.run(pacer, 64 * 4096, noise)[:-1]
    rate = sum(sizes) / sum(machine.seconds(size) for size in sizes)
    assert rate >= 0.35 * 4096 / machine.seconds(4096)


@pytest.mark.parametrize("odd", [0.3, 3.0, 60.0])
@pytest.mark.parametrize("prefilling", [0, 1000])
def test_an_odd_step_changes_nothing_for_long_though_every_step_carries_prefill(
    odd: float, prefilling: int
) -> None:
    machine, pacer = Machine(0.025, 0.020, 2e-4), Pacer(4096, LEAST_TOKENS_ON_GPU)
    machine.run(pacer, 20_000)
    usual = pacer.prefill_budget(state(8, 0))
    pacer.learn(plan(8, prefilling), odd)
    sizes = []
    for _ in range(60):  # no decode step comes any more that would correct anything
        sizes.append(pacer.prefill_budget(state(8, 0)))
        pacer.learn(plan(8, sizes[-1]), machine.seconds(sizes[-1]))
    bound = STRETCH * machine.seconds(1)
    assert all(machine.seconds(size) <= 2 * bound for size in sizes)
    assert machine.seconds(sizes[-2]) <= 1.3 * bound
    assert sizes[-2] >= 0.7 * usual


def test_what_really_takes_longer_is_learnt() -> None:
    pacer = Pacer(4096, LEAST_TOKENS_ON_GPU)
    Machine(0.010, 0.0, 1e-9).run(pacer, 20_000)  # as good as free
    slow = Machine(0.010, 0.0, 5e-4)
    slow.run(pacer, 400_000)
    assert max(slow.run(pacer, 20_000)) == LEAST_TOKENS_ON_GPU


def test_sizes_are_told_apart_even_if_all_prompts_are_long() -> None:
    machine, pacer = Machine(0.010, 0.030, 1e-4), Pacer(512)
    sizes = machine.run(pacer, 512 * 4 * PROBE_EVERY)
    assert len(set(sizes[-PROBE_EVERY - 1 : -1])) > 1


def test_prefill_goes_on_however_slow_the_machine() -> None:
    pacer = Pacer(256)
    sizes = Machine(0.010, 0.0, 0.1).run(pacer, 1000)
    assert min(sizes[3:-1]) >= LEAST_TOKENS // 2


def test_where_many_wait_for_few_the_prompts_come_first() -> None:
    pacer = Pacer(256)
    Machine(0.010, 0.0, 0.0005).run(pacer, 1000)
    assert pacer.prefill_budget(state(8, 0)) < 256
    assert pacer.prefill_budget(state(1, 5)) == 256
    assert pacer.prefill_budget(state(0, 1)) == 256
    assert pacer.prefill_budget(state(8, 0, background=9)) < 256, "background work waits"
    assert pacer.prefill_budget(state(0, 0, background=9)) == 256


def test_nothing_is_held_back_before_anything_is_known() -> None:
    assert Pacer(256).prefill_budget(state(8, 1)) == 256
