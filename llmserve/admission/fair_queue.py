"""Who is next: start-time fair queueing among callers with priorities.

P. Goyal, H. M. Vin, H. Cheng: Start-time Fair Queueing, 1996. Each entry gets a start tag
S = max(V, F) and its caller's finish tag becomes F = S + cost / priority, where V, the virtual
time, is the start tag of the entry served last. The smallest tag is next, so that callers who ask
for more than their share are served in proportion to their priorities, and one who asks for less
does not wait for the others' backlogs. Costs are estimates here: when the actual cost is known, the
difference goes to the caller's account, and a refund also lowers the tag of its first entry, so
that a caller who was charged too much does not wait for it. Pure: no clock, no I/O.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

UNIT: Final = 1_000_000
"""Virtual time is counted in whole millionths: sums are exact and do not drift over months."""

MAX_IDLE_CALLERS: Final = 1024
"""Of callers with nothing waiting, at most so many debts are remembered, the largest ones."""


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """A waiting item. Made by the queue; ordered by (tag, arrival)."""

    item: T
    caller: str
    priority: int
    cost: float
    tag: int
    arrival: int

    @property
    def charge(self) -> int:
        """Its cost to the caller's share, in virtual time."""
        return max(1, round(self.cost / self.priority * UNIT))


@dataclass(slots=True)
class _Caller(Generic[T]):
    """`paid` is the finish tag of what was served, `owed` the charges of the entries in `line`.

    `floor` is the virtual time at which the line began: an unused share is not saved up.
    """

    paid: int = 0
    floor: int = 0
    owed: int = 0
    load: float = 0.0
    line: OrderedDict[int, Entry[T]] = field(default_factory=OrderedDict)


class FairQueue(Generic[T]):
    """Entries in fair order; each caller's own are first in, first out. Owned by one thread."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Entry[T]]] = []  # (tag, arrival, entry), sorted
        self._loads: list[tuple[float, str]] = []  # (-waiting / priority, caller), sorted
        self._callers: dict[str, _Caller[T]] = {}
        self._virtual_time = 0
        self._arrivals = 0
        self._sweep_at = MAX_IDLE_CALLERS

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[T]]:
        return (entry for _, _, entry in self._entries)

    @property
    def num_callers(self) -> int:
        """Callers that are remembered: those who have entries waiting or owe something."""
        return len(self._callers)

    def waiting(self, caller: str) -> int:
        """How many entries of a caller are waiting."""
        known = self._callers.get(caller)
        return len(known.line) if known is not None else 0

    def push(self, item: T, caller: str, priority: int, cost: float) -> Entry[T]:
        """Add an entry; `cost` is an estimate, in any unit."""
        self._arrivals += 1
        entry = Entry(item, caller, priority, cost, self._next_tag(caller), self._arrivals)
        known = self._callers.get(caller)
        if known is None:
            self._sweep()
            known = self._callers[caller] = _Caller()
        if not known.line:
            known.floor = self._virtual_time
        known.line[entry.arrival] = entry
        known.owed += entry.charge
        self._insert(entry)
        self._weigh(known, entry)
        return entry

    def pop(self) -> Entry[T]:
        """Take the next one out.

        Raises:
            IndexError: the queue is empty.
        """
        tag, _, entry = self._entries.pop(0)
        self._virtual_time = tag
        known = self._callers[entry.caller]
        known.paid = max(known.paid, tag) + entry.charge
        self._step_out(known, entry)
        return entry

    def remove(self, entry: Entry[T]) -> None:
        """Take an entry out before its turn; its caller is not charged for it."""
        del self._entries[self.position(entry)]
        self._step_out(self._callers[entry.caller], entry)

    def correct(self, entry: Entry[T], cost: float) -> None:
        """Correct the charge of an entry that was popped to its actual cost."""
        difference = round((cost - entry.cost) / entry.priority * UNIT)
        known = self._callers.get(entry.caller)
        if known is None:  # forgotten meanwhile: its account ended with this entry
            paid = entry.tag + entry.charge + difference
            if paid > self._virtual_time:
                self._sweep()
                self._callers[entry.caller] = _Caller(paid)
            return
        known.paid += difference
        self._bring_forward(known)
        self._forget_if_idle(known, entry.caller)

    def rest(self) -> None:
        """Forget all accounts; to be called when nothing is waiting or being served."""
        assert not self._entries, "entries are waiting"
        self._virtual_time = max([self._virtual_time, *(c.paid for c in self._callers.values())])
        self._callers.clear()

    def position(self, entry: Entry[T]) -> int:
        """How many entries are before this one, which must be waiting."""
        return bisect_left(self._entries, (entry.tag, entry.arrival))

    def next_position(self, caller: str) -> int:
        """How many entries would be before this caller's next one."""
        return bisect_left(self._entries, (self._next_tag(caller) + 1,))

    def longest(self, count: int, caller: str, priority: int, expected: int = 0) -> list[Entry[T]]:
        """The entries to drop for `count` more of a caller; fewer where more would be unfair.

        Each is the last entry of the caller who by then has most waiting per priority, as long as
        that is more than the newcomer would have. `expected` entries of the newcomer will already
        be waiting before these.
        """
        others = (load for load in self._loads if load[1] != caller)
        # One is taken at a time, so the longest is always among the `count` that are longest now.
        heap = [load for load, _ in zip(others, range(count), strict=False)]  # sorted: a heap
        lines = {name: reversed(self._callers[name].line.values()) for _, name in heap}
        mine = self.waiting(caller) + expected
        chosen: list[Entry[T]] = []
        while heap and len(chosen) < count and (mine + len(chosen) + 1) / priority < -heap[0][0]:
            load, name = heap[0]
            chosen.append(next(lines[name]))
            known = self._callers[name]
            per_entry = -known.load / len(known.line)
            heapq.heapreplace(heap, (load + per_entry, name))
        return chosen

    def _next_tag(self, caller: str) -> int:
        known = self._callers.get(caller)
        if known is None:
            return self._virtual_time
        if not known.line:
            return max(self._virtual_time, known.paid)
        first, last = known.line[next(iter(known.line))], known.line[next(reversed(known.line))]
        # Never before the caller's own last entry, whatever was refunded meanwhile.
        return max(max(first.tag, known.paid) + known.owed, last.tag)

    def _step_out(self, known: _Caller[T], entry: Entry[T]) -> None:
        del known.line[entry.arrival]
        known.owed -= entry.charge
        self._weigh(known, entry)
        self._bring_forward(known)
        self._forget_if_idle(known, entry.caller)

    def _bring_forward(self, known: _Caller[T]) -> None:
        """Lower the tag of the caller's first entry if the account allows an earlier one."""
        if not known.line:
            return
        first = known.line[next(iter(known.line))]
        tag = max(known.floor, known.paid)
        if tag < first.tag:
            del self._entries[self.position(first)]
            first.tag = tag
            self._insert(first)

    def _insert(self, entry: Entry[T]) -> None:
        insort(self._entries, (entry.tag, entry.arrival, entry))

    def _weigh(self, known: _Caller[T], entry: Entry[T]) -> None:
        """Update the load of the entry's caller in `_loads`."""
        if known.load:
            del self._loads[bisect_left(self._loads, (known.load, entry.caller))]
        known.load = -len(known.line) / entry.priority
        if known.load:
            insort(self._loads, (known.load, entry.caller))

    def _forget_if_idle(self, known: _Caller[T], name: str) -> None:
        if not known.line and known.paid <= self._virtual_time:
            del self._callers[name]

    def _sweep(self) -> None:
        """Forget idle callers without debt, and the smallest debts beyond the limit.

        Runs each time their number has doubled, so that its cost per caller is negligible.
        """
        if len(self._callers) < self._sweep_at:
            return
        idle = [(c.paid, name) for name, c in self._callers.items() if not c.line]
        kept = set(heapq.nlargest(MAX_IDLE_CALLERS // 2, idle))
        for paid, name in idle:
            if paid <= self._virtual_time or (paid, name) not in kept:
                del self._callers[name]
        self._sweep_at = max(MAX_IDLE_CALLERS, 2 * len(self._callers))
