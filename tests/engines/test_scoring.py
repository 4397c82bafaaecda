"""Log probabilities from logits, and how they are packed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.engines.scores import Scores
from llmserve.engines.scoring import ROWS, score_tokens


def scored(num_tokens: int, vocab: int, num_top: int, seed: int = 0) -> tuple[Scores, torch.Tensor]:
    torch.manual_seed(seed)
    logits = torch.randn(num_tokens, vocab) * 4
    ids = torch.randint(vocab, (num_tokens,))
    return score_tokens(logits, ids, num_top), logits


@pytest.mark.parametrize("num_tokens", [1, ROWS, ROWS + 1, 3 * ROWS - 1])
@pytest.mark.parametrize("num_top", [0, 1, 7])
def test_every_row_is_its_own_tokens(num_tokens: int, num_top: int) -> None:
    scores, logits = scored(num_tokens, 50, num_top)
    rows = logits.log_softmax(-1)
    tokens = scores.tokens(num_top)
    assert len(tokens) == num_tokens
    for row, one in zip(rows, tokens, strict=True):
        assert one.logprob == pytest.approx(float(row[one.token_id]), abs=1e-5)
        assert one.rank == 1 + int((row > row[one.token_id]).sum())
        assert [i for i, _ in one.top] == row.topk(num_top).indices.tolist()
        # Exactly: lm-eval compares them to find out what greedy decoding would give.
        assert dict(one.top).get(one.token_id, one.logprob) == one.logprob


def test_a_vocabulary_smaller_than_what_is_wanted_is_told_whole() -> None:
    scores, _ = scored(2, 3, 20)
    assert scores.num_top == 3
    assert [len(one.top) for one in scores.tokens(20)] == [3, 3]


def test_a_token_without_a_logit_is_impossible() -> None:
    [one] = score_tokens(torch.zeros(1, 4), torch.tensor([9]), 1).tokens(1)
    assert (one.logprob, one.rank) == (-math.inf, 5)


def test_logits_that_are_not_numbers_show() -> None:
    logits = torch.zeros(3, 4)
    ids = torch.tensor([1, 2, 3])
    logits[1, 0] = -math.inf
    assert score_tokens(logits, ids, 1).are_numbers
    logits[1, 0] = math.inf
    assert score_tokens(logits, ids, 1).are_numbers, "the others are impossible"
    logits[1, 0] = math.nan
    assert not score_tokens(logits, ids, 1).are_numbers


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(1, 12), st.data())
def test_what_is_cut_and_put_together_again_is_the_same(
    num_top: int, num_tokens: int, data: st.DataObject
) -> None:
    scores, _ = scored(num_tokens, 20, num_top)
    cut = data.draw(st.integers(0, num_tokens))
    first, last = scores.part(0, cut), scores.part(cut, num_tokens)
    assert (len(first), len(last)) == (cut, num_tokens - cut)
    assert (first + last).tokens(num_top) == scores.tokens(num_top)
    assert first.num_bytes + last.num_bytes == scores.num_bytes == num_tokens * (12 + 8 * num_top)
    fewer = data.draw(st.integers(0, num_top))
    assert [one.top for one in scores.tokens(fewer)] == [
        one.top[:fewer] for one in scores.tokens(num_top)
    ]
