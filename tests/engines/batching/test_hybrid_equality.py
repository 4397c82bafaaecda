"""The same tokens as plain `model.generate`, greedy in float32, for families whose layers keep
recurrent states: whatever else is in the step, however the prompt is cut, whoever had the slot."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from engines.batching.step_machine import BLOCK, Machine, generated, join_and_leave
from tiny_hybrids import HYBRIDS, tiny_hybrid

from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.compute.state_pool import NUM_RESERVED, StatePool
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.weights.loading import LoadedModel

LENGTHS = (1, 2, 17, 70)
MAX_RUNNING = 16


@pytest.fixture(scope="module", params=HYBRIDS)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny_hybrid(request.param)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    numbers = random.Random(7)
    return [[numbers.randrange(4, 128) for _ in range(length)] for length in LENGTHS]


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel, prompts: list[list[int]]) -> list[list[int]]:
    return [generated(loaded, prompt) for prompt in prompts]


@pytest.fixture(scope="module")
def computation(loaded: LoadedModel, expected: list[list[int]]) -> Iterator[ModelComputation]:
    shape = cache_shape(loaded)
    per_block = max(1, shape.bytes_per_token(torch.float32)) * BLOCK
    computation = build_computation(
        loaded, shape, CacheOptions(BLOCK, MAX_RUNNING, 120 * per_block)
    )
    yield computation
    computation.close()


@pytest.mark.parametrize("budget", [7, 96])
def test_mixed_lengths_in_pieces(
    loaded: LoadedModel,
    computation: ModelComputation,
    prompts: list[list[int]],
    expected: list[list[int]],
    budget: int,
) -> None:
    machine = Machine(loaded, computation, budget=budget, is_caching=False)
    assert machine.run([machine.add(prompt) for prompt in prompts]) == expected
    machine.scheduler.check()


def test_joining_and_leaving_with_poisoned_slots(
    loaded: LoadedModel,
    computation: ModelComputation,
    prompts: list[list[int]],
    expected: list[list[int]],
) -> None:
    pool = computation.cache.states
    assert pool is not None
    machine = Machine(loaded, computation, budget=24, is_caching=False)
    assert join_and_leave(machine, prompts, partial(poison, pool)) == expected


def poison(pool: StatePool, live: list[Sequence]) -> None:
    """Fill every place that no live sequence has with NaN."""
    kept = {pool.place(sequence.state) for sequence in live if sequence.num_computed}
    for states in pool._states.values():
        for state in states.values():
            for place in set(range(NUM_RESERVED, len(state))) - kept:
                state[place] = torch.nan
