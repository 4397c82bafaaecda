"""Tokenizers of every kind as llguidance needs them."""

from __future__ import annotations

from typing import Any

import pytest
from engines.constraints.small import of_schema, small_tokenizer, token
from small_bpe import byte_fallback
from transformers import PreTrainedTokenizerFast

from llmserve.engines.constraints.compilation import compile_constraint
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.errors import InvalidRequest
from llmserve.text.tokenizer import Tokenizer


class Slow:
    """A tokenizer without a Rust backend: 256 bytes and an end."""

    chat_template = None

    def __init__(self, missing: int = -1) -> None:
        self.missing = missing

    def __len__(self) -> int:
        return 257

    def convert_ids_to_tokens(self, token_id: int) -> bytes | None:
        if token_id == self.missing:
            return b"xx"
        return bytes([token_id]) if token_id < 256 else None

    def decode(self, ids: Any, **options: Any) -> str:
        spelled = (b"xx" if i == self.missing else bytes([i]) for i in ids if i < 256)
        return b"".join(spelled).decode(errors="replace")

    def encode(self, text: str, **options: Any) -> list[int]:
        return list(text.encode())


def test_a_tokenizer_that_cannot_write_json_is_refused_with_the_reason() -> None:
    vocabulary = Vocabulary(Tokenizer(Slow(missing=ord("{"))), 257, (256,))
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=r"no token is '\{' alone"):
            compile_constraint(of_schema({}), vocabulary)


def test_a_slow_tokenizer_is_read_token_by_token() -> None:
    made = compile_constraint(of_schema({"const": "é"}), Vocabulary(Tokenizer(Slow()), 257, (256,)))
    rule = made.new_rule()
    for byte in '"é"'.encode():
        rule.accept(byte)
    assert rule.is_complete


@pytest.mark.parametrize("more", [0, 70])
def test_every_end_token_may_end_and_padding_never_comes(more: int) -> None:
    tokenizer = small_tokenizer()
    ends = (token("<|end|>"), token("</think>"))
    vocabulary = Vocabulary(tokenizer, tokenizer.vocab_size + more, ends)
    assert vocabulary.get() is vocabulary.get()
    assert vocabulary.get().vocab_size == tokenizer.vocab_size + more
    assert tuple(vocabulary.get().eos_tokens) == ends


def test_more_tokens_than_logits_are_left_out() -> None:
    vocabulary = Vocabulary(small_tokenizer(), 300, (3, 999))
    assert vocabulary.get().vocab_size == 300
    assert vocabulary.get().eos_tokens == [3]


def test_a_vocabulary_with_byte_fallback_is_read() -> None:
    tokenizer = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=byte_fallback()))
    made = compile_constraint(of_schema({"const": "a b"}), Vocabulary(tokenizer, 264, (0,)))
    rule = made.new_rule()
    for piece in ("<0x22>", "a", "▁", "b", "<0x22>"):
        rule.accept(tokenizer.hf.convert_tokens_to_ids(piece))
    assert rule.is_complete
