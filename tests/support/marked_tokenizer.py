"""A tokenizer of bytes that has the delimiters of a syntax as tokens, and a walk through what a
grammar allows."""

from __future__ import annotations

import random
from functools import cache
from typing import Any, Final

import llguidance
import llguidance.hf
import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

EOS: Final = "</s>"


@cache
def marked_tokenizer(
    special: tuple[str, ...], plain: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """Each byte is a token, each of these delimiters is one, special or not."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE({letter: i for i, letter in enumerate(alphabet)}, [])
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, normalized=False) for t in (EOS, *special)])
    backend.add_tokens([AddedToken(token, normalized=False) for token in plain])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS)


@cache
def _ll_tokenizer(special: tuple[str, ...], plain: tuple[str, ...]) -> Any:
    return llguidance.hf.from_tokenizer(marked_tokenizer(special, plain), slices=[])


def walk(
    grammar: str,
    seed: int,
    special: tuple[str, ...] = (),
    plain: tuple[str, ...] = (),
    first: str = "",
    max_tokens: int = 3000,
) -> str | None:
    """The text of random tokens that a grammar allows, after `first`; `None` if it did not end.

    Tokens that end something are preferred: delimiters, quotes and brackets.
    """
    hf = marked_tokenizer(special, plain)
    matcher = llguidance.LLMatcher(_ll_tokenizer(special, plain), grammar)
    assert not matcher.is_error(), matcher.get_error()
    choose = random.Random(seed)
    ids = hf.encode(first, add_special_tokens=False)
    for token_id in ids:
        assert matcher.consume_token(token_id), (first, matcher.get_error())
    ends = {*hf.encode('"}]>,\n', add_special_tokens=False), *range(256, len(hf))}
    words = set(hf.encode("abcxyz019 ", add_special_tokens=False))
    while not matcher.is_stopped() and len(ids) < max_tokens:
        mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = {int(i) for i in np.flatnonzero(np.unpackbits(mask, bitorder="little"))}
        preferred = [s for s in (allowed & ends, allowed & words) if s]
        among = choose.choice(preferred) if preferred and choose.random() < 0.9 else allowed
        token_id = choose.choice(sorted(among))
        assert matcher.consume_token(token_id), matcher.get_error()
        ids.append(token_id)
    return str(hf.decode([i for i in ids if i != 256])) if matcher.is_accepting() else None


def accepts(
    grammar: str, text: str, special: tuple[str, ...] = (), plain: tuple[str, ...] = ()
) -> bool:
    """Whether a grammar allows this text as a whole answer."""
    matcher = llguidance.LLMatcher(_ll_tokenizer(special, plain), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = marked_tokenizer(special, plain).encode(text, add_special_tokens=False)
    return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())
