"""The inputs that wait to be computed, in fair order. Knows no torch and no clock."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Request(Generic[T]):
    """`pending` are sizes and numbers of its inputs, the next one last; `taken` counts tokens."""

    job: T
    caller: str
    priority: int
    pending: list[tuple[int, int]]
    taken: int


@dataclass(slots=True, eq=False)
class _Caller(Generic[T]):
    virtual: float
    requests: dict[int, _Request[T]] = field(default_factory=dict)


class Line(Generic[T]):
    """Shares what is computed among callers by their priorities, and among the requests of each:
    one of thousands of inputs goes on beside a small one, which has its turn at once. Background
    work has what nobody else wants. Owned by one thread.

    The account of a caller is in tokens, divided by its priority; whoever comes anew, or comes
    back, begins at the account of who was served last. An input of a request comes before the
    longer ones.
    """

    def __init__(self) -> None:
        self._tiers: tuple[dict[str, _Caller[T]], dict[str, _Caller[T]]] = ({}, {})
        self._virtual = [0.0, 0.0]
        self._places: dict[int, tuple[int, _Request[T]]] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(
        self,
        job: T,
        sizes: Sequence[int],
        *,
        caller: str,
        priority: int = 1,
        is_background: bool = False,
    ) -> None:
        """Let a job wait, whose inputs have so many tokens; at least one input."""
        pending = sorted(((size, number) for number, size in enumerate(sizes)), reverse=True)
        tier = self._tiers[is_background]
        known = tier.get(caller)
        if known is None:
            known = tier[caller] = _Caller(self._virtual[is_background])
        if not known.requests:
            known.virtual = max(known.virtual, self._virtual[is_background])
        taken = min((request.taken for request in known.requests.values()), default=0)
        request = _Request(job, caller, priority, pending, taken)
        known.requests[id(job)] = request
        self._places[id(job)] = (is_background, request)

    def remove(self, job: T) -> None:
        """Take what is left of a job out; harmless where nothing is."""
        if (place := self._places.pop(id(job), None)) is None:
            return
        tier, request = self._tiers[place[0]], place[1]
        del tier[request.caller].requests[id(job)]
        self._forget_idle(place[0])

    def take(self, budget: int) -> list[tuple[T, int]]:
        """The next inputs, as jobs and the numbers of their inputs: as many tokens as the budget
        has room for, and one input in any case. They are not in the line any more."""
        number = 0 if self._tiers[0] and self._has_requests(0) else 1
        callers = [
            (known.virtual, order, known)
            for order, known in enumerate(self._tiers[number].values())
            if known.requests
        ]
        heapq.heapify(callers)
        lines: dict[int, list[tuple[int, int, _Request[T]]]] = {}
        chosen: list[tuple[T, int]] = []
        while callers:
            virtual, order, known = callers[0]
            line = lines.get(order)
            if line is None:
                line = lines[order] = [
                    (request.taken, place, request)
                    for place, request in enumerate(known.requests.values())
                ]
                heapq.heapify(line)
            _, place, request = line[0]
            size, index = request.pending[-1]
            if chosen and size > budget:
                break
            request.pending.pop()
            budget -= size
            chosen.append((request.job, index))
            request.taken += size
            self._virtual[number] = virtual
            known.virtual = virtual + size / request.priority
            if request.pending:
                heapq.heapreplace(line, (request.taken, place, request))
            else:
                heapq.heappop(line)
                del known.requests[id(request.job)], self._places[id(request.job)]
            if line:
                heapq.heapreplace(callers, (known.virtual, order, known))
            else:
                heapq.heappop(callers)
        self._forget_idle(number)
        return chosen

    def _has_requests(self, number: int) -> bool:
        return any(known.requests for known in self._tiers[number].values())

    def _forget_idle(self, number: int) -> None:
        """Accounts without requests count for as long as they are ahead of the others."""
        tier = self._tiers[number]
        is_empty = not self._has_requests(number)
        for name in [
            name
            for name, known in tier.items()
            if not known.requests and (is_empty or known.virtual <= self._virtual[number])
        ]:
            del tier[name]
