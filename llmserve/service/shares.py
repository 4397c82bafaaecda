"""One admission at the limiter, shared by all the work of one request."""

from __future__ import annotations

from collections.abc import Callable

from llmserve.admission.limits import Admission


class Shares:
    """Shared by the preparations and generations of one request; closes the admission when the
    last of them has returned its share, and `close` was called."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._left = 1  # what `close` returns
        self._tokens = 0

    def take(self) -> Callable[[int], None]:
        """One more share; call what this returns once, with the tokens that were not
        charged on admission."""
        self._left += 1
        return self._give_back

    def close(self) -> None:
        """No more shares are taken; call it once."""
        self._give_back(0)

    def _give_back(self, tokens: int) -> None:
        self._left -= 1
        self._tokens += tokens
        if self._left == 0:
            self._admission.close(self._tokens)
