"""Bans, against a reference that looks for every sequence in the whole answer."""

from __future__ import annotations

import pytest
from engines.rules.vocabulary import everything, forbidden, tokens_in
from hypothesis import given
from hypothesis import strategies as st
from small_bpe import trained_bpe
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from llmserve.engines.rules.allowed_tokens import AllowedTokens
from llmserve.engines.rules.bad_words import BadWords, sequences_of
from llmserve.text.tokenizer import Tokenizer

sequences = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple), max_size=5)


@given(banned=sequences, answer=st.lists(st.integers(0, 4), max_size=20))
def test_a_token_is_forbidden_if_it_completes_a_sequence(
    banned: list[tuple[int, ...]], answer: list[int]
) -> None:
    rule = BadWords(banned)
    for end in range(len(answer) + 1):
        # Of a whole answer, each sequence that one more token would make its end.
        completing = {s[-1] for s in banned if (*answer[:end], s[-1])[-len(s) :] == s}
        assert forbidden(rule) == completing
        assert rule.is_idle is (not completing)
        if end < len(answer):
            rule.accept(answer[end])


def test_a_ban_gives_way_where_nothing_else_is_left() -> None:
    words = everything()
    AllowedTokens([3, 5]).restrict(words)
    BadWords([(3,)]).restrict(words)
    assert tokens_in(words) == {5}
    BadWords([(3,), (5,)]).restrict(words)
    assert tokens_in(words) == {5}


def byte_level() -> Tokenizer:
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=trained_bpe()))


def with_a_space_before_every_text() -> Tokenizer:
    """As in Llama 2."""
    letters = ["<unk>", "\n", "▁", "a", "b", "ab", "▁ab"]
    merges = [("a", "b"), ("▁", "ab")]
    vocab = {piece: i for i, piece in enumerate(letters)}
    backend = Backend(models.BPE(vocab, merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))


def pieces(tokenizer: Tokenizer, *words: str) -> set[tuple[str, ...]]:
    found = sequences_of(words, tokenizer)
    assert len(set(found)) == len(found)
    return {tuple(tokenizer.hf.convert_ids_to_tokens(list(ids))) for ids in found}


def test_a_word_is_found_with_and_without_a_space() -> None:
    tokenizer = byte_level()
    for word in ("fox", " fox", "   fox"):
        assert pieces(tokenizer, word) == {("fo", "x"), ("Ġfox",)}
    assert pieces(tokenizer, "fox", "fox") == pieces(tokenizer, "fox")


def test_a_word_is_found_at_the_beginning_of_a_line() -> None:
    assert pieces(with_a_space_before_every_text(), "ab") == {("▁ab",), ("▁", "▁ab"), ("ab",)}


@pytest.mark.parametrize("space", ["\n", "\n\n", "\t", " "])
def test_white_space_is_a_word(space: str) -> None:
    tokenizer = byte_level()
    found = {tokenizer.decode(ids) for ids in sequences_of([space], tokenizer)}
    assert space in found
    assert {text.strip(" ") for text in found} == {space.strip(" ")}
