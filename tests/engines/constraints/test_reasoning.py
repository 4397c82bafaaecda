"""A form that begins after reasoning, which may be open, closed, or begun by the model."""

from __future__ import annotations

import numpy as np
import pytest
from engines.rules.vocabulary import allowed, forbidden

from llmserve.engines.constraints.reasoning import AfterReasoning
from llmserve.engines.rules.bits import allow_only, as_ids
from llmserve.engines.token_rule import Words

START, END, LINE = 3, 4, 5
VOCAB = 96


class Letters:
    """A form of tokens 40 and 41, complete after one of them."""

    is_idle = False

    def __init__(self) -> None:
        self.heard: list[int] = []

    @property
    def is_complete(self) -> bool:
        return bool(self.heard)

    def restrict(self, words: Words) -> None:
        allow_only(words, as_ids((40, 41)))

    def accept(self, token_id: int) -> None:
        self.heard.append(token_id)


def test_in_the_midst_of_reasoning_any_token_may_come_until_its_end_has() -> None:
    letters = Letters()
    rule = AfterReasoning(letters, START, (END, LINE), is_inside=True)
    for token_id in (40, END, 9, LINE, END):
        assert rule.is_idle
        assert not rule.is_complete
        rule.accept(token_id)
    rule.accept(LINE)
    assert letters.heard == []
    assert allowed(rule, VOCAB) == {40, 41}
    rule.accept(41)
    assert rule.is_complete
    assert letters.heard == [41]


def test_the_first_token_may_open_the_reasoning_or_begin_the_answer() -> None:
    for first, heard in ((START, []), (40, [40])):
        letters = Letters()
        rule = AfterReasoning(letters, START, (END,), is_inside=False)
        assert allowed(rule, VOCAB) == {START, 40, 41}
        rule.accept(first)
        assert letters.heard == heard
        assert rule.is_idle is (first == START)
        if heard:
            assert allowed(rule, VOCAB) == {40, 41}, "it has no reasoning any more"


def test_a_token_that_others_forbid_does_not_come_back() -> None:
    rule = AfterReasoning(Letters(), START, (END,), is_inside=False)
    words = np.full(-(-VOCAB // 32), -1, np.int32)
    allow_only(words, as_ids((40,)))
    rule.restrict(words)
    assert [i for i in range(VOCAB) if words[i // 32] >> (i % 32) & 1] == [40]


def test_where_nothing_opens_or_ends_reasoning_the_form_holds_at_once() -> None:
    for start, end, inside in ((None, (END,), False), (START, (), False), (START, (), True)):
        rule = AfterReasoning(Letters(), start, end, is_inside=inside)
        assert not rule.is_idle
        assert allowed(rule, VOCAB) == {40, 41}


@pytest.mark.parametrize(
    ("tokens", "begins_at"),
    [([7, 8, 9], 3), ([7, 7, 8, 9], 4), ([7, 8, 7, 8, 9], 5), ([8, 9, 7], None), ([7, 8], None)],
)
def test_the_end_of_reasoning_may_be_several_tokens(
    tokens: list[int], begins_at: int | None
) -> None:
    rule = AfterReasoning(Letters(), None, (7, 8, 9), is_inside=True)
    begun = None
    for count, token_id in enumerate(tokens, 1):
        assert rule.is_idle
        assert len(allowed(rule, VOCAB)) == VOCAB
        rule.accept(token_id)
        if not rule.is_idle and begun is None:
            begun = count
    assert begun == begins_at


def test_reasoning_cannot_end_the_answer_before_it_has_begun() -> None:
    rule = AfterReasoning(Letters(), START, (END,), is_inside=True, ends_of_answer=(6, 33))
    for _ in range(2):
        assert not rule.is_idle
        assert forbidden(rule, VOCAB) == {6, 33}
        rule.accept(40)
    rule.accept(END)
    assert allowed(rule, VOCAB) == {40, 41}
