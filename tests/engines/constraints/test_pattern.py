"""Expressions that mean the same to llguidance and to validators."""

from __future__ import annotations

import random
import re

import pytest
from engines.constraints.schemas import PATTERNS
from engines.constraints.small import answer, rule_of
from hypothesis import given
from hypothesis import strategies as st

from llmserve.domain import Constraint, ConstraintKind
from llmserve.engines.constraints.pattern import PatternRefused, portable


@pytest.mark.parametrize(
    "bomb",
    [
        "a{100000}", "((((a{100}){100}){100}){100})", "(" * 60 + ")" * 60, "a" * 5000,
        "(a{1,300}){1,300}", "[ab]{3}{30000}",
    ],
)  # fmt: skip
def test_what_is_too_large_is_refused(bomb: str) -> None:
    with pytest.raises(PatternRefused):
        portable(bomb)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_allowed_matches_in_python(pattern: str) -> None:
    if pattern in ("^a|b$", "^(^a|b$)", "\\.(jpg|png)$"):
        return  # those search, and a constraint matches as a whole
    numbers = random.Random(pattern)
    for _ in range(3):
        text = answer(rule_of(Constraint(ConstraintKind.REGEX, pattern)), numbers)
        assert text is None or re.fullmatch(pattern, text), (pattern, text)


@given(st.text(alphabet="ab[](){}^$.*+?|\\dwsDWS0123,-&~<>pu", max_size=30))
def test_any_text_is_rewritten_or_refused(text: str) -> None:
    try:
        written = portable(text)
    except PatternRefused:
        return
    assert len(written) <= 40 * len(text)
