"""The same tokens as plain `model.generate` where sequences begin with states that others left, or
that they had before they were preempted."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from engines.batching.step_machine import BLOCK, Machine, generated
from support.tiny_hybrids import tiny_hybrid

from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.compute.state_pool import NUM_RESERVED
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.schedule.recurrent_states import RecurrentStates
from llmserve.engines.weights.loading import LoadedModel

NUM_BLOCKS = 40
RUNNING = 4
FAMILIES = ("qwen3_next", "lfm2", "mamba2")


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny_hybrid(request.param)


def tokens(seed: int, count: int) -> list[int]:
    numbers = random.Random(seed)
    return [numbers.randrange(4, 128) for _ in range(count)]


SYSTEM = tokens(0, 44)
ALIKE = [SYSTEM + tokens(seed, 20) for seed in range(1, 5)]
LONG = [tokens(seed, 70) for seed in range(20, 23)]
NEW_TOKENS = 32


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel) -> dict[str, list[list[int]]]:
    """Before the model attends in our way."""
    alike = [generated(loaded, prompt, NEW_TOKENS) for prompt in ALIKE]
    following = [*ALIKE[0], *alike[0], *tokens(9, 10)]
    return {
        "alike": alike,
        "following": [following, generated(loaded, following, NEW_TOKENS)],
        "long": [generated(loaded, prompt, NEW_TOKENS) for prompt in LONG],
    }


@pytest.fixture(scope="module")
def computation(
    loaded: LoadedModel, expected: dict[str, list[list[int]]]
) -> Iterator[ModelComputation]:
    shape = cache_shape(loaded)
    per_block = max(1, shape.bytes_per_token(torch.float32)) * BLOCK
    computation = build_computation(
        loaded, shape, CacheOptions(BLOCK, RUNNING, NUM_BLOCKS * per_block)
    )
    yield computation
    computation.close()


def poison(machine: Machine) -> None:
    """Fill every place with NaN that belongs to no sequence and no checkpoint."""
    pool, states = machine.computation.cache.states, machine.scheduler._states
    assert pool is not None
    assert isinstance(states, RecurrentStates)
    free = set(states._slots._free)
    kept = {pool.place(slot) for slot in range(pool.num_slots) if slot not in free}
    for named in pool._states.values():
        for state in named.values():
            for place in set(range(NUM_RESERVED, len(state))) - kept:
                state[place] = torch.nan


def test_prompts_that_begin_alike_and_a_conversation(
    loaded: LoadedModel, computation: ModelComputation, expected: dict[str, list[list[int]]]
) -> None:
    machine = Machine(loaded, computation, budget=64, is_caching=True)
    found = []
    for prompt, answer in zip(
        [*ALIKE, ALIKE[0]], [*expected["alike"], expected["alike"][0]], strict=True
    ):
        sequence = machine.add(prompt)
        assert machine.run([sequence], NEW_TOKENS) == [answer]
        found.append(sequence.num_cached)
        poison(machine)
    # The second shares blocks and finds no state; the last is the first again.
    assert found == [0, 0, 40, 40, 56]
    following, answer = expected["following"]
    turn = machine.add(following)
    assert machine.run([turn], NEW_TOKENS) == [answer]
    assert turn.num_cached == 88
    machine.scheduler.check()


def test_what_is_preempted_goes_on_from_a_kept_state(
    loaded: LoadedModel, computation: ModelComputation, expected: dict[str, list[list[int]]]
) -> None:
    machine = Machine(loaded, computation, budget=40, is_caching=True)
    sequences = [machine.add(prompt) for prompt in LONG]
    while machine.scheduler.stats().running < len(LONG):
        machine.turn()
    for sequence in sequences[:2]:
        machine.scheduler._preempt(sequence)  # not every model runs out of blocks
    machine.scheduler.check()
    poison(machine)
    assert machine.run(sequences, NEW_TOKENS) == expected["long"]
    assert machine.scheduler.stats().states.hits >= 2
