"""Background work at the gate: it waits behind everyone else, and gives way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from llmserve.admission.fair_queue import Entry, FairQueue

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BackgroundBounds:
    """How much background work there is at once.

    Attributes:
        max_running: that runs.
        max_waiting: that waits; more is refused.
        runs_beside: the engine pauses it between steps, so that it takes nobody's slot. Otherwise
            it has slots while nothing else runs, and loses them when these are wanted.
    """

    max_running: int = 1
    max_waiting: int = 1024
    runs_beside: bool = False


class BackgroundLine(Generic[T]):
    """What waits, in the order of a `FairQueue`, and what runs, in the order of admission. Owned by
    one thread."""

    def __init__(self, bounds: BackgroundBounds) -> None:
        self.bounds = bounds
        self._queue: FairQueue[T] = FairQueue()
        self._running: dict[T, None] = {}
        self._leaving: set[T] = set()

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def leaving(self) -> int:
        """How many of those that run were asked to give way."""
        return len(self._leaving)

    @property
    def slots_taken(self) -> int:
        """Slots that others cannot have now."""
        return 0 if self.bounds.runs_beside else self.running

    def has_next(self, others_running: int, free_slots: int) -> bool:
        """Whether one may begin to run, where nobody else waits."""
        if not self._queue or self.running >= self.bounds.max_running:
            return False
        return self.bounds.runs_beside or (not others_running and free_slots > 0)

    def push(self, item: T, caller: str, priority: int, cost: float) -> Entry[T]:
        """Wait."""
        return self._queue.push(item, caller, priority, cost)

    def position(self, entry: Entry[T]) -> int:
        """How much background work is ahead."""
        return self._queue.position(entry)

    def admit(self) -> T:
        """The next one runs from now on.

        Raises:
            IndexError: none waits.
        """
        item = self._queue.pop().item
        self._running[item] = None
        return item

    def give_way(self) -> T | None:
        """The one admitted last of those that were not asked yet; from now on it was."""
        for item in reversed(self._running):
            if item not in self._leaving:
                self._leaving.add(item)
                return item
        return None

    def drop(self, entry: Entry[T]) -> None:
        """It leaves before its turn."""
        self._queue.remove(entry)

    def end(self, entry: Entry[T], actual_cost: float | None) -> None:
        """It has run."""
        del self._running[entry.item]
        self._leaving.discard(entry.item)
        if actual_cost is not None:
            self._queue.correct(entry, actual_cost)

    def rest(self) -> None:
        """Forget all accounts where nothing waits or runs."""
        if not self._queue and not self._running:
            self._queue.rest()
