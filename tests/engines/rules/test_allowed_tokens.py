"""Nothing but the allowed tokens, whatever was generated."""

from __future__ import annotations

from engines.rules.vocabulary import allowed

from llmserve.engines.rules.allowed_tokens import AllowedTokens


def test_only_these_tokens_may_come_at_any_time() -> None:
    rule = AllowedTokens([3, 40, 3, 31])
    for token_id in (3, 40, 7):
        assert allowed(rule) == {3, 31, 40}
        rule.accept(token_id)


def test_a_token_without_a_bit_is_left_out() -> None:
    assert allowed(AllowedTokens([3, 64])) == {3}
