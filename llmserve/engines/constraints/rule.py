"""A grammar's rule: which tokens may come next in one answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llguidance import LLMatcher

from llmserve.engines.token_rule import Words
from llmserve.errors import GenerationFailed


class GrammarRule:
    """Follows one answer through a grammar. Owned by the thread that samples.

    Once nothing but the end may come, only the model's end-of-sequence tokens are allowed.
    """

    def __init__(
        self, matcher: LLMatcher, vocab: int, num_words: int, on_failure: Callable[[], None]
    ) -> None:
        """The matcher belongs to this rule; its masks have `num_words` words of 32 tokens, and the
        first `vocab` tokens have a logit. `on_failure` is called before `restrict` raises."""
        self._matcher = matcher
        self._on_failure = on_failure
        self._vocab = vocab
        self._mask: Words = np.zeros(num_words, np.int32)
        self._is_current = False

    @property
    def is_idle(self) -> bool:
        """A grammar always decides."""
        return False

    @property
    def is_complete(self) -> bool:
        """Whether the text is whole and nothing can follow it."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def restrict(self, words: Words) -> None:
        """Allow what the grammar allows. The GIL is released meanwhile.

        Raises:
            GenerationFailed: the grammar is too ambiguous for its next token to be found.
        """
        if not self._is_current:
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
            if self._matcher.is_error():
                self._on_failure()
                raise GenerationFailed(
                    "the answer's grammar became too complex to go on with; simplify it"
                )
            self._is_current = True
        words &= self._mask[: len(words)]
        if self._vocab % 32:
            words[-1] &= np.int32((1 << self._vocab % 32) - 1)

    def accept(self, token_id: int) -> None:
        """Never raises: what the grammar does not take shows in the next `restrict`."""
        self._is_current = False
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token_id)
