"""An end for reasoning that goes on too long."""

from __future__ import annotations

from collections import deque

from llmserve.engines.rules.bits import allow_only, as_ids
from llmserve.engines.token_rule import Words


class ThinkingBudget:
    """After `budget` tokens of reasoning only its end marker may come, token by token.

    What the model has already written of the marker counts. Once the marker is complete, whoever
    wrote it, any token may come for the rest of the answer.
    """

    def __init__(
        self,
        budget: int,
        end: tuple[int, ...],
        *,
        starts_inside: bool,
        start: tuple[int, ...] = (),
    ) -> None:
        """
        Args:
            budget: tokens between the markers; 0 ends the reasoning as soon as it begins.
            end: the marker after the reasoning, at least one token.
            starts_inside: whether the prompt ends inside the reasoning.
            start: the marker before the reasoning; without it nothing but `starts_inside` begins
                one.
        """
        self._left = budget
        self._start = start
        self._end = end
        self._is_inside = starts_inside
        self._is_over = False
        self._tail: deque[int] = deque(maxlen=max(len(start), len(end)))

    @property
    def is_idle(self) -> bool:
        """Whether this is no reasoning, or within the budget."""
        return self._is_over or not self._is_inside or self._left > 0

    def restrict(self, words: Words) -> None:
        """Leave only the marker's next token, if the budget is used up."""
        if not self.is_idle:
            allow_only(words, as_ids((self._end[self._num_written()],)))

    def accept(self, token_id: int) -> None:
        """The next token was chosen."""
        if self._is_over:
            return
        self._tail.append(token_id)
        if not self._is_inside:
            if self._start and self._ends_in(self._start):
                self._is_inside = True
                self._tail.clear()
        elif self._ends_in(self._end):
            self._is_over = True
        else:
            self._left -= 1

    def _num_written(self) -> int:
        """How many tokens of the end marker are the last ones written."""
        lengths = range(len(self._end) - 1, 0, -1)
        return next((n for n in lengths if self._ends_in(self._end[:n])), 0)

    def _ends_in(self, marker: tuple[int, ...]) -> bool:
        return tuple(self._tail)[-len(marker) :] == marker
