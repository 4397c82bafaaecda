"""Choosing a token, by torch and by the compiled kernels: the same token for the same number.

Uniform numbers are aimed at the middle of a token's share, so that rounding cannot decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import native_models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.sampling.native_sampler import NativeSampler
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sampling.torch_sampler import SampleTokens, sample_tokens

EVERYTHING = 1.0 - 2.0**-53


class Aimed(RowState):
    """Draws a number that the test chose."""

    def __init__(self, uniform: float, **params: float) -> None:
        wanted = SamplingParams(**{"temperature": 1.0} | params)  # type: ignore[arg-type]
        super().__init__(wanted, (), (), 1, torch.device("cpu"))
        self._uniform = uniform

    def draw(self) -> float:
        return self._uniform


@pytest.fixture(params=["torch", "native"])
def sampler(request: pytest.FixtureRequest) -> SampleTokens:
    return sample_tokens if request.param == "torch" else NativeSampler(native_models.kernels())


def logits(rows: int = 1, vocab: int = 1000, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def greedy() -> Aimed:
    return Aimed(0.5, temperature=0.0)


def test_rows_without_numbers_have_no_token_and_spoil_no_other(sampler: SampleTokens) -> None:
    scores = logits(6)
    scores[1, 7] = math.nan
    scores[2] = -math.inf
    scores[3, 999] = math.inf
    scores[4, 999] = math.nan
    rows = [greedy(), greedy(), Aimed(0.5), Aimed(0.5, top_p=0.5), Aimed(0.5, top_k=3), greedy()]
    chosen = sampler(scores.clone(), rows)
    assert chosen[1:5] == [None] * 4
    assert [chosen[0], chosen[5]] == [int(scores[0].argmax()), int(scores[5].argmax())]


@pytest.mark.parametrize("vocab", [1, 5, 16, 17, 999, 5000])
def test_the_first_of_the_largest_is_the_greedy_one(sampler: SampleTokens, vocab: int) -> None:
    scores = torch.full((2, vocab), -5.0)
    scores[0, vocab // 2 :] = 1.0
    scores[1, -1] = -4.0
    assert sampler(scores, [greedy(), greedy()]) == [vocab // 2, vocab - 1]


@pytest.mark.parametrize("vocab", [1, 3, 16, 300, 2049])
@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9999}, {"top_k": 2000}, {"min_p": 1e-6}])
def test_the_ends_of_the_range_reach_the_first_and_the_last_token(
    sampler: SampleTokens, vocab: int, filters: dict[str, float]
) -> None:
    scores = torch.zeros(2, vocab)
    assert sampler(scores, [Aimed(0.0, **filters), Aimed(EVERYTHING, **filters)]) == [0, vocab - 1]


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.999}, {"top_k": 7}, {"min_p": 1e-6}])
@pytest.mark.parametrize("uniform", [0.0, 0.3, EVERYTHING])
def test_tokens_without_a_share_are_never_drawn(
    sampler: SampleTokens, filters: dict[str, float], uniform: float
) -> None:
    scores = torch.full((1, 700), -math.inf)
    scores[0, 300:310] = -1000.0  # 2^x is zero here
    scores[0, [350, 351, 352]] = 2.0
    assert sampler(scores, [Aimed(uniform, **filters)])[0] in (350, 351, 352)


def test_few_high_logits_among_many_low_ones(sampler: SampleTokens) -> None:
    scores = torch.full((1, 50_000), -20.0)
    scores[0, 49_000] = 20.0
    for filters in ({}, {"top_p": 0.9}, {"top_k": 1}, {"top_k": 40_000, "top_p": 0.9}):
        assert sampler(scores.clone(), [Aimed(EVERYTHING / 2, **filters)]) == [49_000]


@dataclass(frozen=True)
class Reference:
    """What filters leave of a row, in float64: `kept` (vocab,), and the shares of what is."""

    kept: torch.Tensor
    shares: torch.Tensor

    def middle_of(self, token: int) -> float:
        """A number that draws it."""
        before = float(self.shares[:token].sum())
        return before + float(self.shares[token]) / 2


def reference(scores: torch.Tensor, temperature: float, top_k: int, nucleus: int, min_p: float
              ) -> tuple[Reference, float]:  # fmt: skip
    """With `nucleus` tokens left by top-p, or all for 0; and the top_p that leaves them."""
    tempered = scores.double() / temperature
    ranked, order = tempered.sort(descending=True)
    kept = torch.ones_like(order, dtype=torch.bool)
    if top_k:
        kept[top_k:] = False
    left = ranked.masked_fill(~kept, -math.inf).softmax(-1)
    top_p = 1.0
    if nucleus:
        nucleus = min(nucleus, int(kept.sum()))
        # Reached in the middle of the last one's share.
        top_p = float(left[:nucleus].sum() - left[nucleus - 1] / 2)
        kept[nucleus:] = False
    if min_p:
        kept &= ranked - ranked[0] >= math.log(min_p)
    mask = torch.zeros_like(kept)
    mask[order] = kept
    return Reference(mask, tempered.masked_fill(~mask, -math.inf).softmax(-1)), top_p


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(["torch", "native"]),
    st.integers(0, 1000),
    st.sampled_from([40, 1000, 3001, 20_000]),
    st.floats(0.2, 6.0),
    st.floats(0.3, 2.0),
    st.one_of(st.just(0), st.integers(1, 1500)),
    st.one_of(st.just(0), st.integers(1, 1500)),
    st.sampled_from([0.0, 0.001, 0.3]),
)
def test_exactly_what_filters_leave_is_drawn_by_its_share(
    kind: str, seed: int, vocab: int, scale: float, temperature: float, top_k: int, nucleus: int,
    min_p: float,
) -> None:  # fmt: skip
    sampler = sample_tokens if kind == "torch" else NativeSampler(native_models.kernels())
    scores = logits(1, vocab, seed, scale)
    expected, top_p = reference(scores[0], temperature, top_k, nucleus, min_p)
    kept = expected.kept.nonzero()[:, 0]
    # Smaller shares are within what float32 rounds away.
    drawable = [int(i) for i in kept if expected.shares[i] > 1e-5]
    wanted = sorted({drawable[0], drawable[-1], *drawable[:: max(1, len(drawable) // 7)]})
    rows = [
        Aimed(
            expected.middle_of(token),
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        )
        for token in wanted
    ]  # fmt: skip
    assert sampler(scores.repeat(len(rows), 1), rows) == wanted


def test_every_row_by_its_own_wish(sampler: SampleTokens) -> None:
    scores = logits(4, 5000, seed=3)
    rows = [Aimed(0.4), greedy(), Aimed(0.4, top_k=5), Aimed(0.4, top_p=0.3, temperature=0.5)]
    alone = [
        sampler(scores[i : i + 1].clone(), [row])[0] for i, row in enumerate(rows)
    ]  # fmt: skip
    assert sampler(scores.clone(), rows) == alone


def test_equal_logits_stay_or_go_together(sampler: SampleTokens) -> None:
    scores = torch.zeros(1, 100)
    scores[0, 10:14] = 5.0
    for filters in ({"top_k": 1}, {"top_k": 3}, {"top_p": 0.01}, {"top_k": 2, "top_p": 0.4}):
        drawn = [sampler(scores.clone(), [Aimed(u, **filters)])[0] for u in (0.1, 0.4, 0.6, 0.9)]
        assert drawn == [10, 11, 12, 13]


def test_a_share_that_ends_among_many_equals_takes_them_and_no_others(
    sampler: SampleTokens,
) -> None:
    scores = torch.zeros(1, 1000)
    scores[0, 400:600] = 5.0
    for filters in ({"top_p": 0.5}, {"top_k": 100}, {"top_k": 500, "top_p": 0.5}):
        ends = [sampler(scores.clone(), [Aimed(u, **filters)])[0] for u in (0.0, EVERYTHING)]
        assert ends == [400, 599]
