"""One admission at the limiter, shared by the generations of one request."""

from __future__ import annotations

from llmserve.admission.limits import Admission


class Shares:
    """Closed when the last of `count` generations gave its share back, whoever never came to be."""

    def __init__(self, admission: Admission, count: int) -> None:
        self._admission = admission
        self._count = self._left = count
        self._tokens = 0

    def give_back(self, completion_tokens: int) -> None:
        """One generation is over; call it once for each."""
        self._left -= 1
        self._tokens += completion_tokens
        if self._left == 0:
            self._admission.close(self._tokens)

    def give_back_unused(self, used: int) -> None:
        """Only so many generations came to be."""
        for _ in range(self._count - used):
            self.give_back(0)
