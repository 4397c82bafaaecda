"""A rule of which one of several forms must hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmserve.engines.token_rule import AnswerRule, Words


class AnyOf:
    """Each token keeps those forms alive that allowed it, at least one."""

    def __init__(self, forms: Sequence[AnswerRule]) -> None:
        self._alive = list(forms)
        self._masks: list[Words] = []

    @property
    def is_idle(self) -> bool:
        """Whether one of them lets any token come."""
        return any(form.is_idle for form in self._alive)

    @property
    def is_complete(self) -> bool:
        """Whether none of those alive can go on."""
        return all(form.is_complete for form in self._alive)

    def restrict(self, words: Words) -> None:
        """Allow what any of them allows."""
        if len(self._alive) == 1:
            self._alive[0].restrict(words)
            return
        self._masks = [np.full_like(words, -1) for _ in self._alive]
        allowed = np.zeros_like(words)
        for form, mask in zip(self._alive, self._masks, strict=True):
            form.restrict(mask)
            allowed |= mask
        words &= allowed

    def accept(self, token_id: int) -> None:
        """Drop the forms that did not allow it."""
        if self._masks:
            place, bit = token_id // 32, np.int32(1) << np.int32(token_id % 32)
            pairs = zip(self._alive, self._masks, strict=True)
            alive = [form for form, mask in pairs if place < len(mask) and mask[place] & bit]
            self._alive, self._masks = alive or self._alive, []
        for form in self._alive:
            form.accept(token_id)
