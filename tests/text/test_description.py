"""What clients are told of a tokenizer: nothing about this machine."""

from __future__ import annotations

from pathlib import Path

import orjson
from transformers import AutoTokenizer

from llmserve.text.tokenizer import Tokenizer


def test_special_tokens_and_the_template_are_told_and_no_path(tiny_model: Path) -> None:
    hf = AutoTokenizer.from_pretrained(tiny_model)
    told = Tokenizer(hf).description
    text = orjson.dumps(told).decode()
    assert str(tiny_model) not in text
    assert str(Path.cwd()) not in text
    assert told["eos_token"] == hf.eos_token
    assert told["chat_template"] == (hf.chat_template or None)
    assert told["vocab_size"] == len(hf)
    for token_id, token in hf.added_tokens_decoder.items():
        assert told["added_tokens_decoder"][str(token_id)]["content"] == token.content
    hf.model_max_length = int(1e30)
    assert Tokenizer(hf).description["model_max_length"] is None


def test_a_template_that_replaces_the_tokenizers_own_is_the_one_that_is_told(
    tokenizer: Tokenizer,
) -> None:
    other = Tokenizer(tokenizer.hf, "{{ messages[0].content }}")
    assert other.template_source == "{{ messages[0].content }}"
    assert other.has_template


def test_pieces_are_the_vocabularys_and_special_tokens_are_written(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("the little fox", add_special_tokens=False), 10**6]
    assert tokenizer.pieces(ids) == [*tokenizer.hf.convert_ids_to_tokens(ids[:-1]), ""]
    end = tokenizer.hf.convert_tokens_to_ids(tokenizer.hf.eos_token)
    assert tokenizer.written([end]) == tokenizer.hf.eos_token
