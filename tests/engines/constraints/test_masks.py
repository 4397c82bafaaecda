"""Masks of vocabularies of any size, with delimiters among their tokens."""

from __future__ import annotations

import pytest
from engines.rules.vocabulary import allowed
from marked_tokenizer import marked_tokenizer

from llmserve.domain import Constraint, ConstraintKind
from llmserve.engines.constraints.compilation import compile_constraint
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("kind", "source", "text"),
    [
        (ConstraintKind.CHOICE, '["<think>x"]', "<think>x"),
        (ConstraintKind.REGEX, "<think>x", "<think>x"),
        (ConstraintKind.JSON_SCHEMA, '{"const": "<think>x"}', '"<think>x"'),
        (ConstraintKind.GRAMMAR, 'start: "<think>x"', "<think>x"),
    ],
)
def test_a_delimiter_within_a_text_is_text(kind: ConstraintKind, source: str, text: str) -> None:
    hf = marked_tokenizer((), ("<think>",))
    vocabulary = Vocabulary(Tokenizer(hf), len(hf), (hf.eos_token_id,))
    rule = compile_constraint(Constraint(kind, source), vocabulary).new_rule()
    written: list[int] = []
    while not rule.is_complete:
        written.append(max(allowed(rule, -(-len(hf) // 32) * 32)))
        rule.accept(written[-1])
    assert hf.decode(written, skip_special_tokens=True) == text


@pytest.mark.parametrize("extra", [0, 1, 31])
def test_a_mask_is_as_long_as_the_vocabulary(extra: int) -> None:
    hf = marked_tokenizer((), tuple(f"<{i}>" for i in range(31 + extra)))
    assert (len(hf) - extra) % 32 == 0
    vocabulary = Vocabulary(Tokenizer(hf), len(hf), (hf.eos_token_id,))
    rule = compile_constraint(Constraint(ConstraintKind.REGEX, "a"), vocabulary).new_rule()
    assert allowed(rule, -(-len(hf) // 32) * 32) == set(hf.encode("a"))
