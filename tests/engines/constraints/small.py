"""A vocabulary small enough that a thousand answers take seconds, and answers drawn from masks."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import numpy as np
from small_bpe import trained_bpe
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from llmserve.domain import Constraint, ConstraintKind
from llmserve.engines.constraints.compilation import compile_constraint
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.engines.token_rule import AnswerRule
from llmserve.text.tokenizer import Tokenizer


@cache
def small_tokenizer() -> Tokenizer:
    backend = Backend.from_str(trained_bpe().to_str())
    backend.add_special_tokens(["<|end|>", "</think>"])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))


def token(name: str) -> int:
    found: int = small_tokenizer().hf.convert_tokens_to_ids(name)
    return found


@cache
def small_vocabulary() -> Vocabulary:
    tokenizer = small_tokenizer()
    return Vocabulary(tokenizer, tokenizer.vocab_size, (token("<|end|>"),))


def of_schema(schema: Any) -> Constraint:
    return Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(schema))


def rule_of(constraint: Constraint) -> AnswerRule:
    return compile_constraint(constraint, small_vocabulary()).new_rule()


def allowed(rule: AnswerRule) -> list[int]:
    vocab = small_vocabulary().vocab
    words = np.full(-(-vocab // 32), -1, np.int32)
    rule.restrict(words)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    assert not bits[vocab:].any(), "a token without a logit"
    return [int(i) for i in np.flatnonzero(bits)]


def follow(rule: AnswerRule, text: str) -> bool:
    """Whether the rule takes the text, byte by byte."""
    for byte in text.encode():
        token_id = _bytes()[bytes([byte])]
        if token_id not in allowed(rule):
            return False
        rule.accept(token_id)
    return True


def can_end(rule: AnswerRule) -> bool:
    return token("<|end|>") in allowed(rule)


def answer(rule: AnswerRule, numbers: random.Random, most: int = 300) -> str | None:
    """A text from tokens drawn at random, `None` if it was not whole after `most` tokens. What may
    end something is preferred, so that most answers end."""
    end = token("<|end|>")
    closing = {end, *(_bytes()[mark] for mark in (b'"', b"}", b"]"))}
    ids: list[int] = []
    for _ in range(most):
        choices = allowed(rule)
        assert choices, "nothing may come next"
        ends = closing.intersection(choices)
        chosen = numbers.choice(sorted(ends) if ends and numbers.random() < 0.4 else choices)
        if chosen == end:
            break
        ids.append(chosen)
        rule.accept(chosen)
        if rule.is_complete:
            break
    else:
        return None
    spelled = b"".join(small_tokenizer().spelling(i).utf8 for i in ids)
    return spelled.decode()


@cache
def _bytes() -> dict[bytes, int]:
    vocab = small_vocabulary().vocab
    return {small_tokenizer().spelling(i).utf8: i for i in range(vocab)}
