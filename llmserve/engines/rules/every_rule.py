"""Several rules for one answer."""

from __future__ import annotations

from collections.abc import Sequence

from llmserve.engines.token_rule import TokenRule, Words


class EveryRule:
    """A token may come if no rule forbids it. They are asked in order; a ban that gives way where
    nothing else is left comes last."""

    def __init__(self, rules: Sequence[TokenRule]) -> None:
        self._rules = rules

    @property
    def is_idle(self) -> bool:
        """Whether all of them are."""
        return all(rule.is_idle for rule in self._rules)

    def restrict(self, words: Words) -> None:
        """By every rule that is not idle."""
        for rule in self._rules:
            if not rule.is_idle:
                rule.restrict(words)

    def accept(self, token_id: int) -> None:
        """The next token was chosen."""
        for rule in self._rules:
            rule.accept(token_id)
