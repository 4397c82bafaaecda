"""The same tokens as plain `model.generate`, greedy in float32, for every family that is served by
batching: whatever else is in the step, however the prompt is cut, wherever its blocks lie."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from engines.batching.step_machine import BLOCK, Machine, generated, join_and_leave
from make_model import make_model

from llmserve.domain import ModelSpec
from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.weights.loading import LoadedModel, load_model

FAMILIES = (
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2", "gpt-neox", "olmo2",
    "granite", "starcoder2", "cohere", "stablelm", "mixtral", "qwen3-moe", "gpt-oss",
)  # fmt: skip
LENGTHS = (1, 3, 8, 17, 40, 70)


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("family") / request.param
    make_model(f"tiny-{request.param}", folder)
    spec = ModelSpec(request.param, path=folder, dtype="float32", device="cpu")
    return load_model(spec, folder, lambda progress: None)


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[list[int]]:
    numbers = random.Random(7)
    vocab = loaded.model.config.get_text_config().vocab_size
    own = [[numbers.randrange(4, vocab) for _ in range(length)] for length in LENGTHS]
    return [*own, own[4] + [9, 9], [*own[4][:24], 7, 8]]  # two with a beginning in common


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel, prompts: list[list[int]]) -> list[list[int]]:
    return [generated(loaded, prompt) for prompt in prompts]


@pytest.fixture(scope="module")
def shape(loaded: LoadedModel) -> CacheShape:
    return cache_shape(loaded)


def computation_of(loaded: LoadedModel, shape: CacheShape, num_blocks: int) -> ModelComputation:
    per_block = shape.bytes_per_token(torch.float32) * BLOCK
    return build_computation(loaded, shape, CacheOptions(BLOCK, 1000, per_block * num_blocks))


@pytest.fixture
def computation(
    loaded: LoadedModel, shape: CacheShape, expected: list[list[int]]
) -> Iterator[ModelComputation]:
    computation = computation_of(loaded, shape, 120)
    assert computation.cache.num_blocks == 120
    yield computation
    computation.close()


@pytest.mark.parametrize("budget", [16, 512], ids=["chunked", "whole"])
@pytest.mark.parametrize("is_caching", [False, True], ids=["no-cache", "cache"])
def test_all_at_once(
    loaded: LoadedModel,
    computation: ModelComputation,
    prompts: list[list[int]],
    expected: list[list[int]],
    budget: int,
    is_caching: bool,
) -> None:
    machine = Machine(loaded, computation, budget=budget, is_caching=is_caching)
    assert machine.run([machine.add(prompt) for prompt in prompts]) == expected
    machine.scheduler.check()
    assert machine.scheduler.stats().blocks_used == 0


def test_prefix_hits_change_nothing(
    loaded: LoadedModel,
    computation: ModelComputation,
    prompts: list[list[int]],
    expected: list[list[int]],
) -> None:
    machine = Machine(loaded, computation, budget=64, is_caching=True)
    for _ in range(2):
        for index in (4, 6, 7, 5):
            assert machine.run([machine.add(prompts[index])]) == [expected[index]]
    assert machine.num_cached >= 3 * 24 + 40


def test_a_tiny_pool_that_preempts_changes_nothing(
    loaded: LoadedModel, shape: CacheShape, prompts: list[list[int]]
) -> None:
    short = [prompt for prompt in prompts if len(prompt) < 20]
    expected = [generated(loaded, prompt, 24) for prompt in short]
    computation = computation_of(loaded, shape, 9)
    try:
        for is_caching in (False, True):
            machine = Machine(loaded, computation, budget=32, is_caching=is_caching)
            assert machine.run([machine.add(prompt) for prompt in short], 24) == expected
            assert machine.scheduler.stats().preemptions > 0
            machine.scheduler.check()
    finally:
        computation.close()


def test_joining_and_leaving_changes_nothing(
    loaded: LoadedModel,
    computation: ModelComputation,
    prompts: list[list[int]],
    expected: list[list[int]],
) -> None:
    machine = Machine(loaded, computation, budget=24, is_caching=True)
    assert join_and_leave(machine, prompts) == expected
    machine.scheduler.check()
