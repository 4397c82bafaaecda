"""Who is next: start-time fair queueing among callers with weights.

P. Goyal, H. M. Vin, H. Cheng: Start-time Fair Queueing, 1996. Each entry gets a start tag
S = max(V, F) and its caller's finish tag becomes F = S + cost / weight, where V, the virtual time,
is the start tag of the entry served last. The smallest tag is next, so that callers who want more
than their share get service in proportion to their weights, and one who wants less waits for
nobody's backlog. Pure: no clock, no I/O.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where an entry stands: by its start tag, then by its arrival."""

    tag: float
    arrival: int


@dataclass(slots=True)
class _Caller:
    """`finish` is the caller's finish tag, `latest` the start tag of its newest entry."""

    finish: float = 0.0
    latest: float = 0.0
    waiting: int = 0
    weight: int = 1


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One thing that waits. Made by the queue."""

    item: T
    caller: str
    weight: int
    cost: float
    place: _Place


class FairQueue(Generic[T]):
    """Entries in fair order; a caller's own come first in, first out. Owned by one thread."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._entries: dict[_Place, Entry[T]] = {}
        self._callers: dict[str, _Caller] = {}
        self._virtual_time = 0.0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Entry[T]]:
        return (self._entries[place] for place in self._places)

    @property
    def num_callers(self) -> int:
        """Callers that are remembered; those without backlog are forgotten."""
        return len(self._callers)

    def waiting(self, caller: str) -> int:
        """How many entries of a caller wait."""
        known = self._callers.get(caller)
        return known.waiting if known is not None else 0

    def push(self, item: T, caller: str, weight: int, cost: float) -> Entry[T]:
        """Add an entry; `cost` is what it will take, in any unit."""
        known = self._callers.setdefault(caller, _Caller())
        tag = max(self._virtual_time, known.finish)
        if known.waiting:  # after a refund, too, nobody overtakes their own
            tag = max(tag, known.latest)
        known.finish, known.latest, known.weight = tag + cost / weight, tag, weight
        known.waiting += 1
        self._arrivals += 1
        entry = Entry(item, caller, weight, cost, _Place(tag, self._arrivals))
        insort(self._places, entry.place)
        self._entries[entry.place] = entry
        return entry

    def pop(self) -> Entry[T]:
        """Take the next one out.

        Raises:
            IndexError: nobody waits.
        """
        place = self._places.pop(0)
        entry = self._entries.pop(place)
        self._virtual_time = max(self._virtual_time, place.tag)
        self._callers[entry.caller].waiting -= 1
        self._forget_idle(entry.caller)
        return entry

    def remove(self, entry: Entry[T]) -> None:
        """Take one out that gave up; its caller is not charged for it."""
        del self._places[self.position(entry)]
        del self._entries[entry.place]
        known = self._callers[entry.caller]
        known.waiting -= 1
        known.finish -= entry.cost / entry.weight
        self._forget_idle(entry.caller)

    def rest(self) -> None:
        """Nothing waits and nothing is served: what was used until now counts no more."""
        assert not self._places, "somebody waits"
        for known in self._callers.values():
            self._virtual_time = max(self._virtual_time, known.finish)
        self._callers.clear()

    def position(self, entry: Entry[T]) -> int:
        """How many are before this one, which waits."""
        return bisect_left(self._places, entry.place)

    def correct(self, caller: str, weight: int, difference: float) -> None:
        """An entry cost so much more (or, negative, less) than was said."""
        known = self._callers.setdefault(caller, _Caller(finish=self._virtual_time))
        known.finish += difference / weight
        self._forget_idle(caller)

    def last_of(self, caller: str) -> Entry[T] | None:
        """The caller's entry that is furthest from its turn."""
        own = (self._entries[place] for place in reversed(self._places))
        return next((entry for entry in own if entry.caller == caller), None)

    def fattest(self) -> tuple[str, float] | None:
        """The caller with most entries waiting per weight, and that figure."""
        loads = ((name, c.waiting / c.weight) for name, c in self._callers.items() if c.waiting)
        return max(loads, key=lambda load: load[1], default=None)

    def _forget_idle(self, caller: str) -> None:
        known = self._callers[caller]
        if known.waiting == 0 and known.finish <= self._virtual_time:
            del self._callers[caller]
