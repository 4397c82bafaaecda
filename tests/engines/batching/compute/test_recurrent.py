"""Recurrent layers of a model on a pool of states: steps that fail, checkpoints, adapters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from engines.batching.step_machine import BLOCK, generated
from tiny_hybrids import tiny_hybrid

from llmserve.domain import SamplingParams
from llmserve.engines.adapters.adapter import Adapter, LowRank
from llmserve.engines.adapters.hooks import WEIGHT_ALONE, HookedAdapters, linear_layers
from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.compute.state_kernels import state_kernels
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.weights.loading import LoadedModel

PROMPT = [(11 * place + 5) % 120 + 4 for place in range(37)]
NEW_TOKENS = 6
FAMILIES = ("qwen3_next", "jamba", "nemotron_h", "lfm2", "minimax")


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny_hybrid(request.param)


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel) -> list[int]:
    return generated(loaded, PROMPT, NEW_TOKENS)


@pytest.fixture(scope="module")
def computation(loaded: LoadedModel, expected: list[int]) -> Iterator[ModelComputation]:
    computation = build(loaded)
    yield computation
    computation.close()


def build(loaded: LoadedModel) -> ModelComputation:
    shape = cache_shape(loaded)
    per_block = shape.bytes_per_token(torch.float32) * BLOCK
    return build_computation(loaded, shape, CacheOptions(BLOCK, 6, 40 * per_block))


def row(prompt: list[int] = PROMPT) -> RowState:
    return RowState(SamplingParams(temperature=0.0), prompt, (), 128, torch.device("cpu"))


def sequence(slot: int, first_block: int) -> Sequence:
    return Sequence([*PROMPT], state=slot, blocks=[*range(first_block, first_block + 6)])


def step(computation: ModelComputation, *parts: Slice) -> None:
    """Compute slices; sampled tokens become the sequences'."""
    batch = computation.prepare(StepPlan(parts))
    sampled = [part.sequence for part in parts if part.is_sampled]
    tokens = computation.compute(batch, [row() for _ in sampled]).tokens
    for each, token in zip(sampled, tokens, strict=True):
        assert token.token_id is not None
        each.token_ids.append(token.token_id)


def finish(computation: ModelComputation, each: Sequence, start: int) -> list[int]:
    """Compute the rest of its prompt, then decode."""
    step(computation, Slice(each, start, len(PROMPT) - start, is_sampled=True))
    while each.num_tokens < len(PROMPT) + NEW_TOKENS:
        step(computation, Slice(each, each.num_tokens - 1, 1, is_sampled=True))
    return each.token_ids[len(PROMPT) :]


def test_a_checkpoint_is_gone_on_with_by_others(
    computation: ModelComputation, expected: list[int]
) -> None:
    one, two = sequence(0, 0), sequence(1, 6)
    step(computation, Slice(one, 0, 16, False, saved_to=4))
    assert finish(computation, one, 16) == expected
    two.blocks[:2] = one.blocks[:2]
    step(computation, Slice(two, 16, 5, False, restored_from=4))
    assert finish(computation, two, 21) == expected
    three = sequence(2, 12)
    three.blocks[:2] = one.blocks[:2]
    step(computation, Slice(three, 16, 1, False, restored_from=4))
    assert finish(computation, three, 17) == expected


class Unsampled(Exception):
    """What a sampler raises."""


def test_a_step_that_failed_after_the_model_is_computed_again(
    computation: ModelComputation, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> list[int | None]:
        raise Unsampled

    one = sequence(3, 18)
    step(computation, Slice(one, 0, 9, False))
    with monkeypatch.context() as patched:
        patched.setattr(computation.runner, "_sample_tokens", fail)
        for _ in range(3):
            with pytest.raises(Unsampled):
                step(computation, Slice(one, 9, len(PROMPT) - 9, is_sampled=True))
    step(computation, Slice(one, 9, len(PROMPT) - 9, is_sampled=True))
    with monkeypatch.context() as patched:
        patched.setattr(computation.runner, "_sample_tokens", fail)
        for _ in range(3):
            with pytest.raises(Unsampled):
                step(computation, Slice(one, one.num_tokens - 1, 1, is_sampled=True))
    while one.num_tokens < len(PROMPT) + NEW_TOKENS:
        step(computation, Slice(one, one.num_tokens - 1, 1, is_sampled=True))
    assert one.token_ids[len(PROMPT) :] == expected


def test_a_closed_model_computes_as_before() -> None:
    loaded = tiny_hybrid("lfm2")
    before = generated(loaded, PROMPT, NEW_TOKENS)
    computation = build(loaded)
    step(computation, Slice(sequence(0, 0), 0, 9, False))
    computation.close()
    computation.close()
    assert generated(loaded, PROMPT, NEW_TOKENS) == before


@torch.inference_mode()
def test_adapters_on_recurrent_layers_reach_their_own_rows() -> None:
    loaded = tiny_hybrid("qwen3_next")
    layers = linear_layers(loaded.model)
    torch.manual_seed(5)
    pairs = {
        name: LowRank(torch.randn(2, shape.in_features), torch.randn(shape.out_features, 2))
        for name, shape in layers.items()
        if ".linear_attn." in name
    }
    computation = build(loaded)
    forward = computation.runner.forward
    assert isinstance(forward, TransformersForward)
    adapters = computation.adapters
    assert isinstance(adapters, HookedAdapters)
    adapters.attach(1, adapters.prepare(Adapter("", pairs)))
    try:

        def logits(*parts: Slice) -> torch.Tensor:
            batch = computation.prepare(StepPlan(parts))
            result = forward(batch, computation.cache)
            computation.cache.commit(batch.states)
            return result

        def sequences(slot: int) -> tuple[Sequence, Sequence]:
            plain, adapted = sequence(slot, 12 * slot), sequence(slot + 1, 12 * slot + 6)
            adapted.adapter_id = 1
            return plain, adapted

        alone, together = sequences(0), sequences(2)
        for start, length in ((0, 12), (12, 1), (13, 1), (14, 5)):
            own = [logits(Slice(each, start, length, True)) for each in alone]
            assert (own[0] - own[1]).abs().max() > 1e-2
            both = logits(*(Slice(each, start, length, True) for each in together))
            torch.testing.assert_close(both, torch.cat(own), rtol=1e-4, atol=1e-4)
    finally:
        computation.close()


def test_adapters_on_a_weight_that_is_taken_alone_are_refused() -> None:
    layers = linear_layers(tiny_hybrid("mamba").model)
    refused = {name for name, shape in layers.items() if shape.refusal == WEIGHT_ALONE}
    assert refused == {f"backbone.layers.{layer}.mixer.dt_proj" for layer in range(5)}


def test_what_computes_states_is_told() -> None:
    loaded = tiny_hybrid("minimax")
    shape = cache_shape(loaded)
    assert state_kernels(loaded.model, shape.states) == "recurrent states by torch"
    computation = build(loaded)
    computation.close()
    assert computation.description.endswith("; recurrent states by torch")
