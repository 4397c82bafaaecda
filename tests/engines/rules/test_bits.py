"""Bits of tokens, against sets of token ids."""

from __future__ import annotations

import numpy as np
import pytest
from engines.rules.vocabulary import everything, tokens_in
from hypothesis import given
from hypothesis import strategies as st

from llmserve.engines.rules.bits import allow_only, as_ids, forbid

token_ids = st.lists(st.integers(0, 130), max_size=20)


@given(ids=token_ids, before=st.sets(st.integers(0, 95)))
def test_bits_are_sets_of_token_ids(ids: list[int], before: set[int]) -> None:
    words = everything(96)
    allow_only(words, as_ids(tuple(before)))
    assert tokens_in(words) == before
    forbid(words, as_ids(tuple(ids)))
    assert tokens_in(words) == before - set(ids)


@pytest.mark.parametrize("token_id", [0, 30, 31, 32, 63, 95])
def test_every_bit_of_a_word_is_one_token(token_id: int) -> None:
    words = everything(96)
    forbid(words, as_ids((token_id,)))
    assert tokens_in(words) == set(range(96)) - {token_id}
    allow_only(words, as_ids((token_id, 5, token_id)))
    assert tokens_in(words) == {5} - {token_id}
    assert words.dtype == np.int32
