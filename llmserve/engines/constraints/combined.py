"""Rules made of rules: one that begins later, and several that hold together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from loguru import logger

from llmserve.engines.token_rule import AnswerRule, TokenRule, Words


class AfterTokens:
    """A rule that begins once some tokens have come, such as those that end the reasoning."""

    def __init__(self, rule: AnswerRule, after: tuple[int, ...]) -> None:
        self._rule = rule
        self._after = after
        self._last: tuple[int, ...] = ()
        self._has_begun = not after

    @property
    def is_idle(self) -> bool:
        """Whether it has not begun, or its rule is idle."""
        return not self._has_begun or self._rule.is_idle

    @property
    def is_complete(self) -> bool:
        """Whether it has begun and its rule is complete."""
        return self._has_begun and self._rule.is_complete

    def restrict(self, words: Words) -> None:
        """As its rule, once it has begun."""
        if self._has_begun:
            self._rule.restrict(words)

    def accept(self, token_id: int) -> None:
        """Look for the tokens, or pass it on."""
        if self._has_begun:
            self._rule.accept(token_id)
            return
        self._last = (*self._last, token_id)[-len(self._after) :]
        self._has_begun = self._last == self._after


class AllOf:
    """Several rules that hold together. Where they leave nothing, the first one holds alone.

    `form`, if there is one, is the first of them, and says when the answer is complete.
    """

    def __init__(self, form: AnswerRule | None, others: Sequence[TokenRule]) -> None:
        self._form = form
        self._rules: tuple[TokenRule, ...] = (*(() if form is None else (form,)), *others)
        self._is_logged = False

    @property
    def is_idle(self) -> bool:
        """Whether all of them are."""
        return all(rule.is_idle for rule in self._rules)

    @property
    def is_complete(self) -> bool:
        """Whether the form is; other rules end no answer."""
        return self._form is not None and self._form.is_complete

    def restrict(self, words: Words) -> None:
        """Allow what all rules allow."""
        active = [rule for rule in self._rules if not rule.is_idle]
        if not active:
            return
        active[0].restrict(words)
        if len(active) == 1:
            return
        first = words.copy()
        for rule in active[1:]:
            allowed = np.full_like(words, -1)
            rule.restrict(allowed)
            words &= allowed
        if not words.any():
            words[:] = first
            if not self._is_logged:
                self._is_logged = True
                logger.warning(
                    "the rules of an answer leave no token; the first of them holds alone there"
                )

    def accept(self, token_id: int) -> None:
        """Every rule hears of it."""
        for rule in self._rules:
            rule.accept(token_id)
