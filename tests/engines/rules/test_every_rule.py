"""Several rules at once."""

from __future__ import annotations

from engines.rules.vocabulary import allowed, forbidden

from llmserve.engines.rules.allowed_tokens import AllowedTokens
from llmserve.engines.rules.bad_words import BadWords
from llmserve.engines.rules.every_rule import EveryRule


def test_a_token_may_come_if_every_rule_lets_it() -> None:
    both = EveryRule([AllowedTokens([3, 4, 5]), BadWords([(3, 4), (9, 9)])])
    assert allowed(both) == {3, 4, 5}
    both.accept(3)
    assert allowed(both) == {3, 5}


def test_it_is_idle_when_all_of_them_are() -> None:
    both = EveryRule([BadWords([(3, 4)]), BadWords([(5, 6)])])
    for token_id, banned in ((3, {4}), (5, {6}), (7, set())):
        both.accept(token_id)
        assert forbidden(both) == banned
        assert both.is_idle is (not banned)
