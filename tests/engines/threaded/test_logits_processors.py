"""Sampling: each request's own, and what the parameters say."""

from __future__ import annotations

import pytest
import torch

from llmserve.domain import SamplingParams
from llmserve.engines.threaded.logits_processors import (
    Draw,
    LogitBias,
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


def test_min_tokens_hold_stop_tokens_back_where_they_have_a_score() -> None:
    params = SamplingParams(temperature=0.0, min_tokens=2, stop_token_ids=(1, 4))
    for eos_ids in ((3,), ()):
        chain = build_processors(params, 3, eos_ids, CPU)
        assert set(chain(IDS, torch.zeros(1, 4))[0].isinf().nonzero()[:, 0].tolist()) == {
            1,
            *eos_ids,
        }


def test_masked_tokens_are_never_drawn_and_nothing_is_nan() -> None:
    scores = torch.full((1, 1000), -torch.inf)
    scores[0, 7] = 0.0
    noisy = Draw(1, CPU)(IDS, scores)
    assert not noisy.isnan().any()
    assert int(noisy.argmax()) == 7


def test_greedy_takes_the_first_of_the_highest_and_changes_no_logit() -> None:
    scores = torch.tensor([[0.0, 5.0, 5.0, 1.0]])
    chain = build_processors(SamplingParams(temperature=0.0, top_k=1, seed=1), 3, (), CPU)
    assert torch.equal(chain(IDS, scores.clone()), scores)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_two_requests_with_one_seed_draw_alike_though_they_take_turns(seed: int) -> None:
    params, scores = SamplingParams(seed=seed), torch.linspace(-1.0, 1.0, 40)[None]
    one, other = (build_processors(params, 3, (), CPU) for _ in range(2))
    unseeded = build_processors(SamplingParams(), 3, (), CPU)
    first, second = [], []
    for _ in range(20):
        first.append(int(one(IDS, scores.clone()).argmax()))
        unseeded(IDS, scores.clone())
        second.append(int(other(IDS, scores.clone()).argmax()))
    assert first == second
    assert len(set(first)) > 3


def test_requests_without_a_seed_differ_and_leave_the_process_wide_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    scores = torch.zeros(1, 1000)
    assert draws(SamplingParams(), scores, 20) != draws(SamplingParams(), scores, 20)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_shares_of_many_draws_pass_a_chi_square_test(temperature: float) -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -2.0]])
    count = 6000
    seen = draws(SamplingParams(seed=11, temperature=temperature), logits, count)
    expected = count * (logits[0].double() / temperature).softmax(-1)
    observed = torch.bincount(torch.tensor(seen), minlength=6).double()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic < 20.5, "five degrees of freedom: one in a thousand is above"


@pytest.mark.parametrize("temperature", [1.1e-4, 1e-3, 100.0])
def test_extreme_temperatures_and_logits_never_give_nan(temperature: float) -> None:
    scores = torch.tensor([[-1e4, 3e4, 2.9e4, -torch.inf]])
    params = SamplingParams(temperature=temperature, seed=1, top_p=0.9, top_k=3, min_p=0.01)
    chain = build_processors(params, 3, (), CPU)
    for _ in range(50):
        out = chain(IDS, scores.clone())
        assert not out.isnan().any()
        assert int(out.argmax()) == 1


def test_a_noise_of_zero_does_not_decide_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, **options: self.zero_())
    out = Draw(1, CPU)(IDS, torch.tensor([[0.0, 3.0, -torch.inf]]))
    assert out.isfinite().tolist() == [[True, True, False]]
    assert int(out.argmax()) == 1


def test_penalties_come_before_temperature_and_over_generated_tokens_only() -> None:
    params = SamplingParams(
        temperature=0.0, repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25
    )
    chain = build_processors(params, 2, (), CPU)
    ids = torch.tensor([[0, 1, 2, 2, 1]])
    out = chain(ids, torch.tensor([[4.0, 4.0, -4.0, 4.0]]))
    assert out.tolist() == [[2.0, 2.0 - 0.25 - 0.5, -8.0 - 2 * 0.25 - 0.5, 4.0]]


def test_negative_penalties_raise_the_score() -> None:
    out = OccurrencePenalty(-1.0, -0.5, 0)(torch.tensor([[3, 3]]), torch.zeros(1, 4))
    assert out.tolist() == [[0.0, 0.0, 0.0, 2.0]]


def test_before_anything_was_generated_there_is_nothing_to_penalize() -> None:
    scores = torch.randn(1, 8)
    assert torch.equal(OccurrencePenalty(1.0, 1.0, 3)(IDS, scores), scores)


def test_the_end_token_cannot_be_drawn_before_min_tokens_even_if_it_is_certain() -> None:
    scores = torch.tensor([[0.0, 0.0, 1e4, 0.0]])
    for temperature in (0.0, 1.0):
        params = SamplingParams(temperature=temperature, seed=2, min_tokens=1, top_k=1)
        chain = build_processors(params, 3, (2,), CPU)
        assert int(chain(IDS, scores.clone()).argmax()) != 2
        assert int(chain(torch.tensor([[1, 2, 3, 0]]), scores.clone()).argmax()) == 2


def test_a_bias_for_an_id_that_has_no_score_does_nothing() -> None:
    scores = torch.randn(1, 4)
    assert torch.equal(LogitBias(((4, 100.0), (10**6, 5.0)))(IDS, scores), scores)


def test_a_bias_is_added_and_the_models_logits_stay() -> None:
    scores = torch.zeros(1, 4)
    bias = LogitBias(((1, 2.5), (3, -100.0)))
    for _ in range(2):
        assert bias(IDS, scores).tolist() == [[0.0, 2.5, 0.0, -100.0]]
    assert scores.tolist() == [[0.0] * 4]


def test_a_bias_keeps_the_type_of_the_scores() -> None:
    scores = torch.zeros(1, 4, dtype=torch.float16)
    assert LogitBias(((1, 2.5),))(IDS, scores).dtype is torch.float16


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_of_100_forces_a_token_and_of_minus_100_bans_it(temperature: float) -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    forced = SamplingParams(temperature=temperature, seed=1, logit_bias=((3, 100.0),))
    assert set(draws(forced, scores, 200)) == {3}
    banned = SamplingParams(temperature=temperature, seed=1, logit_bias=((0, -100.0),))
    assert 0 not in draws(banned, scores, 200)


def test_a_bias_is_not_penalized_and_no_bias_brings_the_end_before_min_tokens() -> None:
    params = SamplingParams(
        temperature=0.0, repetition_penalty=2.0, min_tokens=1, logit_bias=((1, 4.0), (0, 100.0))
    )
    chain = build_processors(params, 3, (0,), CPU)
    assert chain(IDS, torch.tensor([[0.0, 2.0, 0.0, 0.0]])).tolist() == [[-torch.inf, 5.0, 0, 0]]
