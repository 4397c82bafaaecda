"""No text has fewer tokens than its length allows, and of many tokenizers that is not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bpe import trained_bpe
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llmserve.domain import Conversation, Message
from llmserve.text.length_bound import LengthBound
from llmserve.text.tokenizer import Tokenizer
from llmserve.text.too_long import TooLong

TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from(" ▁\nabethfo<s>|im_nd\u0301\u00e9狐😀"), st.characters(codec="utf-8")
    )
)


def byte_level(**parts: Any) -> tokenizers.Tokenizer:
    bpe = tokenizers.Tokenizer.from_str(trained_bpe().to_str())
    for name, part in parts.items():
        setattr(bpe, name, part)
    return bpe


def with_fallback(**parts: Any) -> tokenizers.Tokenizer:
    """As Llama 2 has it: a space is `▁`, and a letter that is no token is its bytes."""
    vocabulary = {"<unk>": 0} | {f"<0x{i:02X}>": i + 1 for i in range(256)}
    merges = []
    for left, right in (("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "▁"), ("▁▁", "▁▁")):
        for piece in (left, right, left + right):
            vocabulary.setdefault(piece, len(vocabulary))
        merges.append((left, right))
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.add_special_tokens(["<s>"])
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def with_added(token: AddedToken) -> tokenizers.Tokenizer:
    bpe = byte_level()
    bpe.add_special_tokens([token])
    return bpe


KNOWN: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "byte level": byte_level,
    "byte level, NFC": lambda: byte_level(normalizer=normalizers.NFC()),
    "byte level, cut": lambda: byte_level(
        pre_tokenizer=pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "isolated"),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
            ]
        )
    ),
    "byte level, a long special token": lambda: with_added(AddedToken("<|im_end|>" * 9)),
    "byte fallback": with_fallback,
    "byte fallback, Metaspace": lambda: with_fallback(
        normalizer=None, pre_tokenizer=pre_tokenizers.Metaspace()
    ),
}
UNKNOWN: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "words": lambda: tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a")),
    "drops letters": lambda: byte_level(
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Split("a", "removed"), pre_tokenizers.ByteLevel()]
        )
    ),
    "drops white space": lambda: byte_level(pre_tokenizer=pre_tokenizers.Whitespace()),
    "strips": lambda: byte_level(normalizer=normalizers.Strip()),
    "strips in a sequence": lambda: byte_level(
        normalizer=normalizers.Sequence([normalizers.NFC(), normalizers.StripAccents()])
    ),
    "replaces": lambda: with_fallback(normalizer=normalizers.Replace("the", "")),
    "no bytes": lambda: tokenizers.Tokenizer(models.BPE({"a": 0}, [])),
    "a token that swallows spaces": lambda: with_added(AddedToken("<mask>", lstrip=True)),
    "not every byte": lambda: byte_level(model=models.BPE({"a": 0}, [])),
}


@pytest.mark.parametrize("name", KNOWN)
@settings(deadline=None, max_examples=60)
@given(text=TEXTS, times=st.sampled_from([1, 1, 7]))
def test_no_text_has_fewer(name: str, text: str, times: int) -> None:
    made = KNOWN[name]()
    text *= times
    ids = made.encode(text, add_special_tokens=False).ids
    assert LengthBound(made).fewest_tokens(text) <= len(ids)


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_of_use(name: str) -> None:
    bound = LengthBound(KNOWN[name]())
    assert bound.fewest_tokens("ab cd efg " * 100_000) > 1000
    with pytest.raises(TooLong) as refused:
        bound.check("ab cd efg " * 100_000, 100)
    assert refused.value.fewest > 1000
    bound.check("ab cd efg ", 100)
    bound.check("ab cd efg " * 100_000, None)


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_a_byte_may_be_lost_nothing_is_known(name: str) -> None:
    assert LengthBound(UNKNOWN[name]()).fewest_tokens("a" * 10**6) == 0


def test_a_normal_form_may_shorten_what_is_not_ascii() -> None:
    bound = LengthBound(KNOWN["byte level, NFC"]())
    assert bound.fewest_tokens("e\u0301" * 10**5) == 0
    assert LengthBound(byte_level()).fewest_tokens("e\u0301" * 10**5) > 1000


def test_half_a_surrogate_pair_has_a_length() -> None:
    assert LengthBound(byte_level()).fewest_tokens("\ud800" * 10**5) > 1000


def test_a_tokenizer_of_transformers_alone_is_unknown() -> None:
    assert LengthBound(None).fewest_tokens("a" * 10**6) == 0


def test_texts_and_conversations_are_refused_before_they_are_tokenized(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Tokenizer(AutoTokenizer.from_pretrained(tiny_model))
    long = "ab cd efg " * 10_000
    fewest = len(ours.encode(long))
    for prompt in (long, Conversation((Message("user", long),))):
        assert len(ours.encode(prompt, max_tokens=fewest)) >= fewest
        with monkeypatch.context() as patch:
            patch.setattr(ours, "_encode_text", lambda *args, **fields: pytest.fail("tokenized"))
            with pytest.raises(TooLong) as refused:
                ours.encode(prompt, max_tokens=100)
        assert 100 < refused.value.fewest <= fewest


def test_what_begins_a_text_twice_is_there_once_and_the_bound_holds() -> None:
    bpe = byte_level()
    bpe.add_special_tokens(["<s>"])
    ours = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe))
    for text in ("<s>", "<s><s>the", "<s>" * 9):
        assert len(ours.encode(text)) >= ours._bound.fewest_tokens(text)
