"""An answer of some tokens alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from llmserve.engines.rules.bits import allow_only, as_ids
from llmserve.engines.token_rule import Words


class AllowedTokens:
    """Nothing else may come, not even the end-of-sequence token if it is not among them (as in
    vLLM)."""

    def __init__(self, token_ids: Iterable[int]) -> None:
        """At least one."""
        self._ids = as_ids(tuple(token_ids))
        self._allowed: Words | None = None

    @property
    def is_idle(self) -> bool:
        """Never."""
        return False

    def restrict(self, words: Words) -> None:
        """Leave only the allowed tokens. Each call has as many words as the first one."""
        if self._allowed is None:
            self._allowed = np.full_like(words, -1)
            allow_only(self._allowed, self._ids)
        np.bitwise_and(words, self._allowed, out=words)

    def accept(self, token_id: int) -> None:
        """The rule is the same for every token."""
