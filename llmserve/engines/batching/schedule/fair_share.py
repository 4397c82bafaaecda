"""How much of the engine each caller was given."""

from __future__ import annotations

from llmserve.domain.cost import token_cost


class FairShare:
    """Virtual token counters: a caller is charged for its tokens, divided by its priority, and the
    one with the smallest counter comes next. A caller that returns after a pause starts at the
    smallest counter of the active callers: being away earns no credit.

    VTC: Sheng et al., Fairness in Serving Large Language Models, OSDI 2024.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._requests: dict[str, int] = {}

    def enter(self, caller: str) -> None:
        """A caller has one more request."""
        if caller not in self._requests:
            self._served[caller] = min(self._served.values(), default=0.0)
        self._requests[caller] = self._requests.get(caller, 0) + 1

    def leave(self, caller: str) -> None:
        """A caller has one request fewer; with its last one it is forgotten."""
        self._requests[caller] -= 1
        if not self._requests[caller]:
            del self._requests[caller], self._served[caller]

    def charge(self, caller: str, priority: int, prefilled: int, decoded: int) -> None:
        """Count tokens that were computed for a caller."""
        self._served[caller] += token_cost(prefilled, decoded) / priority

    def served(self, caller: str) -> float:
        """Its counter, which means something only beside other callers'."""
        return self._served[caller]

    @property
    def num_callers(self) -> int:
        """Callers with at least one request."""
        return len(self._served)
