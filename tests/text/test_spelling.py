"""How single tokens are written: odd ones first, then that they add up to the text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_bpe import byte_fallback, trained_bpe
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from llmserve.text.spelling import _BYTE_OF, REPLACEMENT, Spelling, spell
from llmserve.text.tokenizer import Tokenizer

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(alphabet="ab 中文国😀🚀é\n", max_size=40)


def wrapped(bpe: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe))


def like_llama() -> tokenizers.Tokenizer:
    """As `byte_fallback`, and a text's first space is not the text's."""
    bpe = tokenizers.Tokenizer.from_str(byte_fallback().to_str())
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return bpe


def test_an_id_beyond_the_tokenizers_vocabulary_is_written_as_nothing(tokenizer: Tokenizer) -> None:
    padded = Tokenizer(tokenizer.hf, num_embeddings=10**6)
    assert padded.spelling(999_999) == Spelling("", b"", is_in_text=False)


@pytest.mark.parametrize("error", [IndexError, KeyError])
def test_a_slow_tokenizer_may_raise_for_an_id_that_it_does_not_have(
    error: type[Exception],
) -> None:
    class Slow:
        def __len__(self) -> int:
            return 9

        def convert_ids_to_tokens(self, token_id: int) -> str:
            raise error("piece id is out of range")

    assert Tokenizer(Slow()).spelling(8) == Spelling("", b"", is_in_text=False)


def test_a_special_token_shows_its_name_and_is_not_in_the_text(tokenizer: Tokenizer) -> None:
    end = tokenizer.hf.eos_token_id
    assert tokenizer.spelling(end) == Spelling("<|im_end|>", b"<|im_end|>", is_in_text=False)


@pytest.mark.parametrize("piece", ["<0xE4>", "ä", b"\xe4"])
def test_a_lone_byte_is_right_whichever_way_the_vocabulary_has_it(piece: str | bytes) -> None:
    assert spell(REPLACEMENT, piece) == Spelling(REPLACEMENT, b"\xe4")


@pytest.mark.parametrize("piece", [REPLACEMENT, "ï¿½"])
def test_a_real_replacement_character_is_its_own_three_bytes(piece: str) -> None:
    assert spell(REPLACEMENT, piece).utf8 == REPLACEMENT.encode()


def test_text_that_looks_like_a_byte_token_is_text() -> None:
    assert spell("<0xE4>", "<0xE4>") == Spelling("<0xE4>", b"<0xE4>")


def test_the_end_of_one_character_and_the_beginning_of_the_next_may_share_a_token() -> None:
    letters = {byte: letter for letter, byte in _BYTE_OF.items()}
    middle = "中文".encode()[1:4]
    spelling = spell("\ufffd\ufffd\ufffd", "".join(letters[byte] for byte in middle))
    assert spelling.utf8 == middle


def test_every_byte_has_one_letter() -> None:
    assert sorted(_BYTE_OF.values()) == list(range(256))
    assert (_BYTE_OF["Ġ"], _BYTE_OF["Ċ"], _BYTE_OF["a"]) == (0x20, 0x0A, 0x61)


def test_a_words_space_is_the_words_even_where_a_texts_first_space_is_dropped() -> None:
    bpe = like_llama()
    space = bpe.token_to_id("▁")
    assert bpe.decode([space]) == ""
    assert wrapped(bpe).spelling(space) == Spelling(" ", b" ")


@pytest.mark.parametrize("make", [trained_bpe, byte_fallback, like_llama])
@quick
@given(text=st.one_of(st.text(max_size=40), TEXT))
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(
    make: Callable[[], tokenizers.Tokenizer], text: str
) -> None:
    bpe = make()
    tokenizer = wrapped(bpe)
    spellings = [tokenizer.spelling(i) for i in bpe.encode(text).ids]
    assert b"".join(spelling.utf8 for spelling in spellings) == text.encode()
    assert all(spelling.is_in_text for spelling in spellings)
    for spelling in spellings:
        assert spelling.text == spelling.utf8.decode(errors="replace")
