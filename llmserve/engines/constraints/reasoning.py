"""A rule for what follows the reasoning, of an answer that may or may not begin with some."""

from __future__ import annotations

import numpy as np

from llmserve.engines.rules.bits import as_ids, forbid
from llmserve.engines.token_rule import AnswerRule, Words


class AfterReasoning:
    """Within the reasoning any token may come but those that would end the answer before it has
    begun. Where the model opens the reasoning itself, its first token may do so, or begin the
    answer."""

    def __init__(
        self,
        rule: AnswerRule,
        start: int | None,
        end: tuple[int, ...],
        *,
        is_inside: bool,
        ends_of_answer: tuple[int, ...] = (),
    ) -> None:
        """
        Args:
            rule: of the answer itself.
            start: the token that opens reasoning; `None` if there is no such token.
            end: the tokens that end it; empty for models that do not reason.
            is_inside: whether the prompt ends in the midst of reasoning.
            ends_of_answer: the model's end-of-sequence tokens.
        """
        self._ends_of_answer = as_ids(ends_of_answer)
        self._rule = rule
        self._end = end
        self._is_inside = is_inside and bool(end)
        self._start = None if is_inside or not end else start
        self._last: tuple[int, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether any token may come."""
        return not len(self._ends_of_answer) if self._is_inside else self._rule.is_idle

    @property
    def is_complete(self) -> bool:
        """Whether the answer is."""
        return not self._is_inside and self._rule.is_complete

    def restrict(self, words: Words) -> None:
        """As the rule; the first token may open the reasoning, too."""
        if self._is_inside:
            forbid(words, self._ends_of_answer)
            return
        if self._start is None:
            self._rule.restrict(words)
            return
        place, bit = self._start // 32, np.int32(1) << np.int32(self._start % 32)
        opens = words[place] & bit if place < len(words) else np.int32(0)
        self._rule.restrict(words)
        if opens:
            words[place] |= opens

    def accept(self, token_id: int) -> None:
        """Look for the ends of the reasoning, or pass it on."""
        if self._is_inside:
            self._last = (*self._last, token_id)[-len(self._end) :]
            self._is_inside = self._last != self._end
            return
        start, self._start = self._start, None
        if token_id == start:
            self._is_inside = True
        else:
            self._rule.accept(token_id)
