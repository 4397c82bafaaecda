"""Several rules that hold together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from loguru import logger

from llmserve.engines.token_rule import AnswerRule, TokenRule, Words


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
