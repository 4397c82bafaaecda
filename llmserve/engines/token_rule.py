"""What decides which tokens may come next in one answer: a grammar, a ban, a budget."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int32]
"""(ceil(vocab / 32),): bit `i % 32` of word `i // 32` says whether token i may come next."""


class TokenRule(Protocol):
    """The rule of one answer, and how far that answer is. Owned by the thread that samples."""

    @property
    def is_idle(self) -> bool:
        """Whether, at this moment, any token may come next; `restrict` need not be called then."""
        ...

    def restrict(self, words: Words) -> None:
        """Clear the bits of tokens that may not come next; at least one stays set.

        Should release the GIL where it takes long: it runs beside the forward pass. Calling it
        again, without `accept` in between, must be harmless.
        """
        ...

    def accept(self, token_id: int) -> None:
        """The next token was chosen."""
        ...


class AnswerRule(TokenRule, Protocol):
    """A rule that also knows where the answer ends."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing but the end can follow: the answer ends here, end token or not."""
        ...
