"""Incremental decoding equals decoding at once, and never shows half a character."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmserve.text.detokenizer import MAX_HELD_TOKENS, REPLACEMENT
from llmserve.text.tokenizer import Tokenizer

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def pieces(tokenizer: Tokenizer, ids: list[int], context: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer(context)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@quick
@given(text=st.text(max_size=60), context=st.text(max_size=10))
def test_any_text_comes_out_as_it_went_in(tokenizer: Tokenizer, text: str, context: str) -> None:
    ids = tokenizer.encode(text)
    assert "".join(pieces(tokenizer, ids, tokenizer.encode(context))) == tokenizer.decode(ids)


@quick
@given(text=st.text(alphabet="龙の目👩‍🚀é한ß", min_size=1, max_size=30))
def test_no_piece_ends_in_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    parts = pieces(tokenizer, tokenizer.encode(text), [])
    assert not any(REPLACEMENT in part for part in parts)
    assert "".join(parts) == text


@quick
@given(ids=st.lists(st.integers(3, 258), max_size=60))
def test_arbitrary_bytes_are_held_for_a_bounded_time_and_a_broken_tail_is_dropped(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    detokenizer = tokenizer.detokenizer([])
    silent = 0
    for token_id in ids:
        silent = 0 if detokenizer.push(token_id) else silent + 1
        assert silent < MAX_HELD_TOKENS
    assert not detokenizer.flush().endswith(REPLACEMENT)


def test_a_character_that_the_prompt_began_is_completed(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("👩")
    assert len(ids) > 1
    detokenizer = tokenizer.detokenizer(ids[:-1])
    assert detokenizer.push(ids[-1]) == "👩"


def test_the_words_of_a_sentence_keep_their_spaces(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("def f(x):\n    return  x + 1\n")
    assert "".join(pieces(tokenizer, ids, tokenizer.encode("code: "))) == tokenizer.decode(ids)
