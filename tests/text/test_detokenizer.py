"""Incremental decoding equals decoding at once, and never shows half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import tokenizers
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_bpe import byte_fallback, trained_bpe
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmserve.text.detokenizer import (
    MAX_CHARACTER_BYTES,
    MAX_HELD_TOKENS,
    REPLACEMENT,
    Detokenizer,
)
from llmserve.text.tokenizer import Tokenizer

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def answer(bpe: tokenizers.Tokenizer, ids: list[int], prompt: Sequence[int] = ()) -> list[str]:
    detokenizer = Detokenizer(bpe.decode, prompt)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


def pieces(tokenizer: Tokenizer, ids: list[int], context: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer(context)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@quick
@given(text=st.text(max_size=60), context=st.text(max_size=10))
def test_any_text_comes_out_as_it_went_in(tokenizer: Tokenizer, text: str, context: str) -> None:
    assume(REPLACEMENT not in context)  # a real one looks like half a character
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
def test_arbitrary_bytes_are_held_for_a_bounded_time_and_decoded_as_the_tokenizer_does(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    detokenizer = tokenizer.detokenizer([])
    text, silent = "", 0
    for token_id in ids:
        piece = detokenizer.push(token_id)
        text, silent = text + piece, 0 if piece else silent + 1
        assert silent < MAX_HELD_TOKENS + MAX_CHARACTER_BYTES
    assert text + detokenizer.flush() == tokenizer.decode(ids)


def test_a_character_that_the_prompt_began_is_completed(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("👩")
    assert len(ids) > 1
    detokenizer = tokenizer.detokenizer(ids[:-1])
    assert detokenizer.push(ids[-1]) == "👩"


def test_the_words_of_a_sentence_keep_their_spaces(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("def f(x):\n    return  x + 1\n")
    assert "".join(pieces(tokenizer, ids, tokenizer.encode("code: "))) == tokenizer.decode(ids)


mixed = st.text(alphabet="ab 中文国😀🚀é\n", max_size=40)


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
@quick
@given(text=st.one_of(st.text(max_size=40), mixed), prompt=st.text(alphabet="ab c", max_size=8))
def test_any_answer_comes_out_as_it_went_in(
    make: Callable[[], tokenizers.Tokenizer], text: str, prompt: str
) -> None:
    assume(REPLACEMENT not in text)
    bpe = make()
    ids = bpe.encode(text).ids
    parts = answer(bpe, ids, bpe.encode(prompt).ids)
    assert "".join(parts) == bpe.decode(ids)
    assert not any(REPLACEMENT in part for part in parts)


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
@quick
@given(text=mixed, last=st.sampled_from("国😀🚀é🧿"), missing=st.integers(1, 3), prompt=mixed)
def test_half_a_character_at_the_end_is_decoded_as_the_tokenizer_does(
    make: Callable[[], tokenizers.Tokenizer], text: str, last: str, missing: int, prompt: str
) -> None:
    bpe = make()
    ids = bpe.encode(text + "a" + last).ids
    whole = len(bpe.encode(text + "a").ids)
    ids = ids[: max(whole, len(ids) - missing)]
    assert "".join(answer(bpe, ids, bpe.encode(prompt).ids)) == bpe.decode(ids)


@pytest.mark.parametrize("num_broken", range(MAX_HELD_TOKENS - 4, MAX_HELD_TOKENS + 2))
@pytest.mark.parametrize("before", [[""], ["ĢÃ", "©"]])  # nothing, or an é over two tokens
def test_a_character_is_whole_however_many_broken_ones_came_before_it(
    num_broken: int, before: list[str]
) -> None:
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
    [(emoji, _)] = letters.pre_tokenize_str("😀")  # four letters, one for each byte
    *others, last = before
    pieces = [*("Ģ" * num_broken), *others, last + emoji[0], *emoji[1:]]
    words = tokenizers.Tokenizer(
        models.WordLevel({piece: i for i, piece in enumerate(dict.fromkeys(pieces))})
    )
    words.decoder = decoders.ByteLevel()
    ids = [words.token_to_id(piece) for piece in pieces]
    assert words.decode(ids, skip_special_tokens=False).endswith("😀")
    assert "".join(answer(words, ids)) == words.decode(ids)


@quick
@given(data=st.data())
def test_arbitrary_tokens_are_decoded_as_the_tokenizer_does(data: st.DataObject) -> None:
    bpe = trained_bpe()
    lead = [i for i in range(bpe.get_vocab_size()) if bpe.decode([i]).endswith(REPLACEMENT)]
    token = st.one_of(st.sampled_from(lead), st.integers(0, bpe.get_vocab_size() - 1))
    ids = data.draw(st.lists(token, max_size=60))
    assert "".join(answer(bpe, ids)) == bpe.decode(ids)


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
@quick
@given(data=st.data())
def test_of_arbitrary_tokens_only_what_was_held_too_long_ends_in_half_a_character(
    make: Callable[[], tokenizers.Tokenizer], data: st.DataObject
) -> None:
    bpe = make()
    lead = [i for i in range(bpe.get_vocab_size()) if bpe.decode([i]).endswith(REPLACEMENT)]
    token = st.one_of(st.sampled_from(lead), st.integers(0, bpe.get_vocab_size() - 1))
    detokenizer, waited = Detokenizer(bpe.decode), 0
    for token_id in data.draw(st.lists(token, max_size=50)):
        waited += 1
        piece = detokenizer.push(token_id)
        if piece.endswith(REPLACEMENT):
            assert waited >= MAX_HELD_TOKENS - MAX_CHARACTER_BYTES  # some may still be held
        waited = 0 if piece else waited


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
@quick
@given(prompt=mixed, text=mixed)
def test_nothing_of_the_prompt_is_in_the_answer(
    make: Callable[[], tokenizers.Tokenizer], prompt: str, text: str
) -> None:
    bpe = make()
    assert "".join(answer(bpe, bpe.encode(text).ids, bpe.encode(prompt).ids)) == text


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
@pytest.mark.parametrize("prompt", ["中🧿", "a🧿🧿", "🧿🧿🧿"])
def test_a_prompt_may_end_inside_any_character(
    make: Callable[[], tokenizers.Tokenizer], prompt: str
) -> None:
    bpe = make()
    ids = bpe.encode(prompt + " b").ids
    cut = len(bpe.encode(prompt).ids) - 1
    assert "".join(answer(bpe, ids[cut:], ids[:cut])) == "🧿 b"


@pytest.mark.parametrize(
    ("make", "tail"), [(trained_bpe, REPLACEMENT), (byte_fallback, 3 * REPLACEMENT)]
)
def test_flush_tells_a_broken_tail_and_takes_nothing_back_for_it(
    make: Callable[[], tokenizers.Tokenizer], tail: str
) -> None:
    bpe = make()
    broken = bpe.encode("🧿").ids[:-1]
    assert "".join(answer(bpe, [*bpe.encode("abc中").ids, *broken])) == "abc中" + tail
    assert Detokenizer(bpe.decode).flush() == ""


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
def test_half_a_character_of_the_prompt_is_not_told(
    make: Callable[[], tokenizers.Tokenizer],
) -> None:
    bpe = make()
    *half, rest = bpe.encode("🧿").ids
    assert answer(bpe, [], half) == [""]
    assert "".join(answer(bpe, [10**6], half)) == "", "nor if the answer has no text"
    [second, *_] = half[1:]
    assert "".join(answer(bpe, [second], half[:1])) == bpe.decode([second]) == REPLACEMENT
    assert "".join(answer(bpe, [rest], half)) == "🧿"


def test_a_token_that_the_tokenizer_does_not_know_has_no_text() -> None:
    bpe = trained_bpe()
    ids = bpe.encode("the fox").ids
    with_unknown = [x for i in ids for x in (i, 10**6)]
    assert "".join(answer(bpe, with_unknown)) == "the fox"


def test_a_long_run_of_tokens_without_text_leaves_the_rest_whole() -> None:
    bpe = trained_bpe()
    start = bpe.encode("the").ids
    parts = answer(bpe, [*start, *[10**6] * 70, *bpe.encode(" fox 中").ids])
    assert "".join(parts) == "the fox 中"


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
@pytest.mark.parametrize("num_cut", range(4))
@pytest.mark.parametrize(
    ("repeated", "last"), [("🧿", "🧿"), ("中", "🧿"), ("龙", "ß"), ("龙", "龙")]
)
def test_a_long_prompt_of_equally_long_characters_may_end_anywhere(
    make: Callable[[], tokenizers.Tokenizer], repeated: str, last: str, num_cut: int
) -> None:
    bpe = make()
    whole = bpe.encode(repeated * 20 + last).ids
    num_cut = min(num_cut, len(bpe.encode(last).ids) - 1)
    rest = last if num_cut else ""
    edge = len(whole) - num_cut
    ids = [*whole[edge:], *bpe.encode("🧿中 b").ids]
    assert "".join(answer(bpe, ids, whole[:edge])) == rest + "🧿中 b"


MARKERS = ("<s>", "<|a b|>", "[é中]")
"""Texts of special tokens."""


@cache
def with_markers(make: Callable[[], tokenizers.Tokenizer], *, strips: bool = False) -> Tokenizer:
    """With special tokens; where it `strips`, a text loses its first space, as in Llama 2."""
    bpe = tokenizers.Tokenizer.from_str(make().to_str())
    if strips:
        bpe.decoder = decoders.Sequence([bpe.decoder, decoders.Strip(" ", 1, 0)])
    bpe.add_special_tokens([AddedToken(text, normalized=False) for text in MARKERS])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe))


def shown_and_expected(
    data: st.DataObject, tokenizer: Tokenizer, ids: list[int]
) -> tuple[frozenset[int], str]:
    """Special tokens to show, and what the tokenizer itself says of the tokens that are left."""
    shown = data.draw(st.frozensets(st.sampled_from(sorted(tokenizer.special_ids)), min_size=1))
    left = [i for i in ids if i in shown or i not in tokenizer.special_ids]
    return shown, tokenizer.hf.backend_tokenizer.decode(left, skip_special_tokens=False)


def streamed(tokenizer: Tokenizer, ids: list[int], shown: frozenset[int]) -> str:
    detokenizer = tokenizer.detokenizer([], shown)
    return "".join([*(detokenizer.push(i) for i in ids), detokenizer.flush()])


@pytest.mark.parametrize("strips", [False, True])
@quick
@given(data=st.data())
def test_special_tokens_among_arbitrary_ones_are_shown_as_the_tokenizer_does(
    data: st.DataObject, strips: bool
) -> None:
    tokenizer = with_markers(trained_bpe, strips=strips)
    token = st.one_of(
        st.integers(0, len(tokenizer.hf) - 1), st.sampled_from(sorted(tokenizer.special_ids))
    )
    ids = data.draw(st.lists(token, max_size=60))
    shown, expected = shown_and_expected(data, tokenizer, ids)
    assert streamed(tokenizer, ids, shown) == expected == tokenizer.decode(ids, shown)


@pytest.mark.parametrize("strips", [False, True])
@quick
@given(data=st.data())
def test_special_tokens_among_bytes_are_shown_as_the_tokenizer_does(
    data: st.DataObject, strips: bool
) -> None:
    tokenizer = with_markers(byte_fallback, strips=strips)
    special = st.sampled_from(sorted(tokenizer.special_ids)).map(lambda i: [i])
    text = st.text("ab 中é😀", max_size=4).map(tokenizer.encode_bare)
    half = st.sampled_from("中é😀").map(lambda c: tokenizer.encode_bare("a" + c)[:-1])
    broken = st.tuples(half, special).map(lambda parts: [*parts[0], *parts[1]])
    chunks = data.draw(st.lists(st.one_of(special, text, broken), max_size=12))
    ids = [i for chunk in chunks for i in chunk]
    shown = tokenizer.special_ids
    expected = tokenizer.hf.backend_tokenizer.decode(ids, skip_special_tokens=False)
    assert streamed(tokenizer, ids, shown) == expected == tokenizer.decode(ids, shown)


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback])
def test_a_special_token_that_is_shown_settles_what_was_held(
    make: Callable[[], tokenizers.Tokenizer],
) -> None:
    tokenizer = with_markers(make)
    [marker] = tokenizer.encode("<s>")
    half = tokenizer.encode_bare("🧿")[:-1]
    detokenizer = tokenizer.detokenizer(tokenizer.encode("a"), frozenset({marker}))
    assert [detokenizer.push(i) for i in half] == [""] * len(half)
    assert detokenizer.push(marker) == tokenizer.decode(half) + "<s>"
    assert detokenizer.push(marker) == "<s>"
    assert detokenizer.flush() == ""
