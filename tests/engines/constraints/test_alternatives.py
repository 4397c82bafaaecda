"""One of several forms: each token leaves those that allowed it."""

from __future__ import annotations

from engines.rules.vocabulary import allowed

from llmserve.engines.constraints.alternatives import AnyOf
from llmserve.engines.rules.bits import allow_only, as_ids
from llmserve.engines.token_rule import Words

VOCAB = 64


class Only:
    """A form that is one sequence of tokens."""

    is_idle = False

    def __init__(self, *token_ids: int) -> None:
        self._left = list(token_ids)

    @property
    def is_complete(self) -> bool:
        return not self._left

    def restrict(self, words: Words) -> None:
        allow_only(words, as_ids(tuple(self._left[:1] or [0])))

    def accept(self, token_id: int) -> None:
        if self._left:
            assert self._left.pop(0) == token_id


def test_what_any_form_allows_may_come_until_one_is_left() -> None:
    rule = AnyOf([Only(5, 6, 7), Only(5, 8), Only(9)])
    assert allowed(rule, VOCAB) == {5, 9}
    rule.accept(5)
    assert allowed(rule, VOCAB) == {6, 8}
    assert not rule.is_complete
    rule.accept(8)
    assert rule.is_complete
    assert allowed(rule, VOCAB) == {0}, "the end"


def test_it_is_not_complete_while_another_form_may_go_on() -> None:
    rule = AnyOf([Only(5), Only(5, 6)])
    allowed(rule, VOCAB)
    rule.accept(5)
    assert not rule.is_complete
    assert allowed(rule, VOCAB) == {0, 6}


def test_asking_again_changes_nothing() -> None:
    rule = AnyOf([Only(5, 6), Only(7)])
    assert [allowed(rule, VOCAB) for _ in range(3)] == [{5, 7}] * 3
