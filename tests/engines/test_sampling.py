"""Sampling: each request's own, and what the parameters say."""

from __future__ import annotations

import pytest
import torch

from llmserve.domain import SamplingParams
from llmserve.engines.sampling import (
    Draw,
    NoEosBefore,
    OccurrencePenalty,
    build_processors,
)

CPU = torch.device("cpu")
IDS = torch.tensor([[1, 2, 3]])


def draws(params: SamplingParams, scores: torch.Tensor, count: int) -> list[int]:
    chain = build_processors(params, 3, (), CPU)
    return [int(chain(IDS, scores.clone()).argmax()) for _ in range(count)]


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-9])
def test_no_temperature_is_greedy(temperature: float) -> None:
    chain = build_processors(SamplingParams(temperature=temperature, seed=1), 3, (), CPU)
    assert not any(isinstance(processor, Draw) for processor in chain)


def test_the_process_wide_generator_is_neither_read_nor_moved() -> None:
    scores = torch.randn(1, 50)
    params = SamplingParams(seed=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draws(params, scores, 20)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert draws(params, scores, 20) == first
    assert draws(SamplingParams(seed=4), scores, 20) != first


def test_draws_follow_the_softmax() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    seen = draws(SamplingParams(seed=0), probabilities.log()[None], 4000)
    shares = torch.bincount(torch.tensor(seen), minlength=4) / len(seen)
    assert torch.allclose(shares, probabilities, atol=0.03)


def test_filters_leave_only_what_they_should() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    assert set(draws(SamplingParams(seed=0, top_k=2), scores, 300)) == {0, 1}
    assert set(draws(SamplingParams(seed=0, top_p=0.6), scores, 300)) == {0}
    assert set(draws(SamplingParams(seed=0, top_p=0.0), scores, 300)) == {0}
    assert set(draws(SamplingParams(seed=0, min_p=0.3), scores, 300)) == {0, 1}
    assert set(draws(SamplingParams(seed=0, temperature=2.0), scores, 300)) == {0, 1, 2, 3}


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    penalty = OccurrencePenalty(presence=0.5, frequency=0.25, prompt_tokens=2)
    ids = torch.tensor([[0, 0, 1, 1, 2]])
    penalized = penalty(ids, torch.zeros(1, 4))
    assert penalized.tolist() == [[0.0, -1.0, -0.75, 0.0]]


def test_no_end_token_before_min_tokens() -> None:
    mask = NoEosBefore(2, (0, 3), prompt_tokens=3)
    scores = torch.zeros(1, 4)
    assert mask(torch.zeros(1, 4), scores).tolist() == [[-torch.inf, 0.0, 0.0, -torch.inf]]
    assert mask(torch.zeros(1, 5), scores).tolist() == [[0.0] * 4]
    assert scores.tolist() == [[0.0] * 4], "the model's logits are not ours to change"


def test_masked_tokens_are_never_drawn_and_nothing_is_nan() -> None:
    scores = torch.full((1, 1000), -torch.inf)
    scores[0, 7] = 0.0
    noisy = Draw(1, CPU)(IDS, scores)
    assert not noisy.isnan().any()
    assert int(noisy.argmax()) == 7
