"""The words that rules restrict, as sets of token ids."""

from __future__ import annotations

import numpy as np

from llmserve.engines.token_rule import TokenRule, Words


def everything(vocab: int = 64) -> Words:
    """Words in which every token may come; `vocab` is a multiple of 32."""
    return np.full(vocab // 32, -1, np.int32)


def tokens_in(words: Words) -> set[int]:
    """The tokens that may come."""
    return {i for i in range(32 * len(words)) if words[i // 32] >> (i % 32) & 1}


def forbidden(rule: TokenRule, vocab: int = 64) -> set[int]:
    """What it forbids now; an idle rule is not asked."""
    words = everything(vocab)
    if not rule.is_idle:
        rule.restrict(words)
        once = words.copy()
        rule.restrict(words)
        assert (words == once).all(), "asking twice changes nothing"
    return tokens_in(everything(vocab)) - tokens_in(words)


def allowed(rule: TokenRule, vocab: int = 64) -> set[int]:
    """What it leaves."""
    return tokens_in(everything(vocab)) - forbidden(rule, vocab)
