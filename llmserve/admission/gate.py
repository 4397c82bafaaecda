"""The gate: a bounded number of callers run, a bounded number wait in fair order, the rest are
told when to come back. Knows nothing of models or HTTP.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from llmserve.admission.fair_queue import Entry, FairQueue
from llmserve.errors import DeadlineUnreachable, InvalidRequest, QueueFull

MIN_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 300.0
JITTER: Final = 0.25
SMOOTHING: Final = 0.2

PushOut = Callable[[QueueFull], None]


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    LEFT = auto()


class Ticket:
    """A caller's place: waiting, then running, then given back.

    `on_admit` is called once, when the turn comes; `on_push_out` when the place in the queue
    is given to a caller who has less. Neither may block.
    """

    def __init__(
        self,
        gate: Gate,
        on_admit: Callable[[], None],
        on_push_out: PushOut | None,
    ) -> None:
        self._gate = gate
        self._state = _State.WAITING
        self._entry: Entry[Ticket] | None = None
        self.on_admit = on_admit
        self.on_push_out = on_push_out
        self.admitted_at: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the turn has not come yet."""
        return self._state is _State.WAITING

    @property
    def position(self) -> int:
        """How many callers are ahead; 0 is next (or running)."""
        return self._gate.position(self)

    @property
    def eta_seconds(self) -> float | None:
        """Estimated wait from now, `None` before anything was measured."""
        return self._gate.eta_seconds(self.position) if self.is_waiting else 0.0

    def release(self, actual_cost: float | None = None) -> None:
        """Give the place back, in whatever state; doing it twice is harmless.

        `actual_cost` is what it came to, where that is known better than before.
        """
        self._gate.release(self, actual_cost)


class Gate:
    """At most `max_running` callers run and `max_waiting` wait, in the order of a `FairQueue`.

    Owned by the event loop's thread. When both are full, the last waiting ticket of the caller
    who has most waiting per weight makes room for a caller who has clearly less (longest queue
    drop: B. Suter et al., 1998); otherwise `enter` raises `QueueFull` with the time after which a
    place should be free: places ahead ÷ slots × the smoothed time that a caller holds a slot,
    jittered so that those turned away do not return together.
    """

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        clock: Callable[[], float],
        rng: random.Random | None = None,
    ) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._queue: FairQueue[Ticket] = FairQueue()
        self._running = 0
        self._hold_seconds: float | None = None

    @property
    def running(self) -> int:
        """Callers that hold a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._queue)

    def check_room(self, count: int, *, caller: str = "anonymous", weight: int = 1) -> None:
        """Whether so many tickets could be taken now.

        Raises:
            InvalidRequest: they could not even if nobody else were here.
            QueueFull: not now; says when to try again.
        """
        most = self.max_running + self.max_waiting
        if count > most:
            raise InvalidRequest(
                f"this request is {count} generations and the server takes {most} at most; "
                "split it",
                param="n",
            )
        missing = count - (most - self._running - len(self._queue))
        if missing > 0 and not self._could_push_out(missing, count, caller, weight):
            raise self._full()

    def enter(
        self,
        on_admit: Callable[[], None],
        *,
        caller: str = "anonymous",
        weight: int = 1,
        cost: float = 1.0,
        patience_seconds: float | None = None,
        on_push_out: PushOut | None = None,
    ) -> Ticket:
        """Take a place; `on_admit` may be called before this returns.

        `cost` is what the caller will use, in any unit; `patience_seconds` is how long it would
        wait.

        Raises:
            QueueFull: no slot and no place in the queue; says when to try again.
            DeadlineUnreachable: the predicted wait is longer than the patience.
        """
        ticket = Ticket(self, on_admit, on_push_out)
        is_free = self._running < self.max_running and not self._queue
        if not is_free and len(self._queue) >= self.max_waiting:
            self._push_out_for(caller, weight)
        ticket._entry = self._queue.push(ticket, caller, weight, cost)
        if is_free:
            self._admit_next()
        elif patience_seconds is not None:
            self._check_patience(ticket, patience_seconds)
        return ticket

    def position(self, ticket: Ticket) -> int:
        """How many waiting callers are ahead of this one."""
        if not ticket.is_waiting or ticket._entry is None:
            return 0
        return self._queue.position(ticket._entry)

    def eta_seconds(self, position: int) -> float | None:
        """Estimated wait for the caller at that position."""
        if self._hold_seconds is None:
            return None
        return (position + 1) / self.max_running * self._hold_seconds

    def release(self, ticket: Ticket, actual_cost: float | None = None) -> None:
        """Free the ticket's place and let the next callers in."""
        entry, state = ticket._entry, ticket._state
        assert entry is not None
        ticket._state = _State.LEFT
        if state is _State.RUNNING:
            self._running -= 1
            self._learn(ticket)
            if actual_cost is not None:
                self._queue.correct(entry.caller, entry.weight, actual_cost - entry.cost)
        elif state is _State.WAITING:
            self._queue.remove(entry)
        while self._queue and self._running < self.max_running:
            self._admit_next()
        if not self._running and not self._queue:
            self._queue.rest()

    def _admit_next(self) -> None:
        ticket = self._queue.pop().item
        ticket._state = _State.RUNNING
        ticket.admitted_at = self._clock()
        self._running += 1
        ticket.on_admit()

    def _check_patience(self, ticket: Ticket, patience_seconds: float) -> None:
        eta = ticket.eta_seconds
        if eta is None or eta <= patience_seconds:
            return
        self.release(ticket)
        raise DeadlineUnreachable(
            f"the wait for a slot would be about {eta:.0f} s and this request waits "
            f"{patience_seconds:.0f} s at most; try again later",
            retry_after_seconds=self._jittered(eta - patience_seconds),
        )

    def _push_out_for(self, caller: str, weight: int) -> None:
        """Make room in a full queue, at the cost of whoever has most there."""
        victim = self._victim(1, caller, weight)
        if victim is None:
            raise self._full()
        error = self._full()
        assert victim.on_push_out is not None
        tell = victim.on_push_out
        self.release(victim)
        tell(error)

    def _victim(self, wanted: int, caller: str, weight: int) -> Ticket | None:
        fattest = self._queue.fattest()
        if fattest is None or fattest[0] == caller:
            return None
        if (self._queue.waiting(caller) + wanted) / weight >= fattest[1]:
            return None
        entry = self._queue.last_of(fattest[0])
        ticket = entry.item if entry is not None else None
        return ticket if ticket is not None and ticket.on_push_out is not None else None

    def _could_push_out(self, missing: int, count: int, caller: str, weight: int) -> bool:
        """Whether so many places can be had: each of them is taken from the fattest caller."""
        fattest = self._queue.fattest()
        if fattest is None or self._victim(count, caller, weight) is None:
            return False
        name, load = fattest
        theirs = self._queue.waiting(name)
        left = load * (theirs - missing + 1) / theirs
        return (self._queue.waiting(caller) + count) / weight < left

    def _learn(self, ticket: Ticket) -> None:
        assert ticket.admitted_at is not None
        held = self._clock() - ticket.admitted_at
        previous = held if self._hold_seconds is None else self._hold_seconds
        self._hold_seconds = previous + SMOOTHING * (held - previous)

    def _full(self) -> QueueFull:
        return QueueFull(
            f"{self._running} requests are running and {len(self._queue)} waiting, "
            f"of {self.max_running} and {self.max_waiting} that may; try again later",
            retry_after_seconds=self._jittered(
                self.eta_seconds(len(self._queue)) or MIN_RETRY_SECONDS
            ),
        )

    def _jittered(self, seconds: float) -> float:
        bounded = min(max(seconds, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
        return bounded * self._rng.uniform(1.0, 1.0 + JITTER)
