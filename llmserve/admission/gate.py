"""The gate: a bounded number of requests run, a bounded number wait in fair order, and the rest are
refused with a time to try again. Knows nothing of models or HTTP.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from llmserve.admission.background_line import BackgroundBounds, BackgroundLine
from llmserve.admission.fair_queue import Entry, FairQueue
from llmserve.errors import DeadlineUnreachable, Displaced, InvalidRequest, QueueFull

MIN_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 300.0
BACKGROUND_RETRY_SECONDS: Final = 10.0
JITTER: Final = 0.25
SMOOTHING: Final = 0.2

PushOut = Callable[[QueueFull], None]
Displace = Callable[[Displaced], None]


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    LEFT = auto()


class Ticket:
    """A request's place: waiting, then running, then released.

    `on_admit` is called once, when its turn comes; `on_push_out` if its place in the queue is given
    to a caller who has fewer requests. Background work has `on_displace`, which is called once if
    it is to give its slot back before its end, and is told what it must end with. All may use the
    gate; none may block or raise.
    """

    def __init__(
        self,
        gate: Gate,
        on_admit: Callable[[], None],
        on_push_out: PushOut | None = None,
        on_displace: Displace | None = None,
    ) -> None:
        self._gate = gate
        self._state = _State.WAITING
        self._entry: Entry[Ticket] | None = None
        self.on_admit = on_admit
        self.on_push_out = on_push_out
        self.on_displace = on_displace
        self.admitted_at: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether its turn has not come yet."""
        return self._state is _State.WAITING

    @property
    def is_background(self) -> bool:
        """Whether it is background work."""
        return self.on_displace is not None

    @property
    def position(self) -> int:
        """How many requests of its class are ahead; 0 means next (or running)."""
        return self._gate.position(self)

    @property
    def eta_seconds(self) -> float | None:
        """Estimated wait from now; `None` before anything was measured, and for background work."""
        if not self.is_waiting:
            return 0.0
        return None if self.is_background else self._gate.eta_seconds(self.position)

    def release(self, actual_cost: float | None = None) -> None:
        """Release the place, in whatever state; doing it twice is harmless.

        `actual_cost` replaces the estimate, where it is known.
        """
        self._gate.release(self, actual_cost)


class Gate:
    """At most `max_running` requests run and `max_waiting` wait, in the order of a `FairQueue`.

    Owned by the event loop's thread. When both are full, the last waiting ticket of the caller
    who has most waiting per priority makes room for a caller who has clearly less (longest queue
    drop: B. Suter et al., 1998); otherwise `enter` raises `QueueFull` with the time after which a
    place should be free: places ahead ÷ slots × the smoothed time for which a slot is held,
    jittered so that refused clients do not return together.

    Background work waits in a line of its own and begins to run only when nobody else waits.
    No estimate and no bound of the others counts it.
    """

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        clock: Callable[[], float],
        rng: random.Random | None = None,
        background: BackgroundBounds = BackgroundBounds(),  # noqa: B008 - frozen
    ) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._queue: FairQueue[Ticket] = FairQueue()
        self._background: BackgroundLine[Ticket] = BackgroundLine(background)
        self._running = 0
        self._hold_seconds: float | None = None
        self._is_admitting = False

    @property
    def running(self) -> int:
        """Requests that hold a slot, without background work."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in the queue, without background work."""
        return len(self._queue)

    @property
    def background_running(self) -> int:
        """Background work that runs."""
        return self._background.running

    @property
    def background_waiting(self) -> int:
        """Background work that waits."""
        return self._background.waiting

    def check_room(
        self,
        count: int,
        *,
        caller: str = "anonymous",
        priority: int = 1,
        patience_seconds: float | None = None,
    ) -> None:
        """Check that `count` tickets could be taken now, and the first within its patience.

        Raises:
            InvalidRequest: there are too many even for an idle server.
            QueueFull: not now; says when to try again.
            DeadlineUnreachable: the predicted wait of the first is longer than the patience.
        """
        most = self.max_running + self.max_waiting
        if count > most:
            raise InvalidRequest(
                f"this request needs {count} generations and the server takes {most} at most; "
                "split it",
                param="n",
            )
        places = most - self._running - len(self._queue)
        victims: list[Entry[Ticket]] = []
        if count > places:
            queued = max(0, places - (self.max_running - self._running))
            victims = self._queue.longest(count - places, caller, priority, expected=queued)
            if len(victims) < count - places or not all(map(_can_be_told, victims)):
                raise self._full()
        if patience_seconds is not None:
            self._check_patience(patience_seconds, caller, next(iter(victims), None))

    def enter(
        self,
        on_admit: Callable[[], None],
        *,
        caller: str = "anonymous",
        priority: int = 1,
        cost: float = 1.0,
        patience_seconds: float | None = None,
        on_push_out: PushOut | None = None,
    ) -> Ticket:
        """Take a place; `on_admit` may be called before this returns.

        `cost` estimates what the request will use, in any unit; `patience_seconds` is how long it
        may wait. Without `on_push_out` the ticket is never pushed out.

        Raises:
            QueueFull: no slot and no place in the queue; says when to try again.
            DeadlineUnreachable: the predicted wait is longer than the patience.
        """
        victim = self._victim_for(caller, priority)
        if patience_seconds is not None:
            self._check_patience(patience_seconds, caller, victim)
        # The victim is called last, with the queue in its final state: it may enter again at once.
        error = self._full() if victim is not None else None
        if victim is not None:
            victim.item._state = _State.LEFT
            self._queue.remove(victim)
        ticket = Ticket(self, on_admit, on_push_out)
        ticket._entry = self._queue.push(ticket, caller, priority, cost)
        if victim is not None and error is not None and victim.item.on_push_out is not None:
            victim.item.on_push_out(error)
        self._admit()
        return ticket

    def check_background_room(self, count: int) -> None:
        """Check that background work of `count` generations could be taken now.

        Raises:
            InvalidRequest: there are too many even for an idle server.
            QueueFull: not now; says when to try again.
        """
        line, bounds = self._background, self._background.bounds
        most = bounds.max_running + bounds.max_waiting
        if count > most:
            raise InvalidRequest(
                f"this request needs {count} generations and the server takes {most} in the "
                "background at most; split it",
                param="n",
            )
        if line.running + line.waiting + count > most:
            raise QueueFull(
                f"{line.running} background requests are running and {line.waiting} of at most "
                f"{bounds.max_waiting} waiting; try again later",
                retry_after_seconds=self._jittered(BACKGROUND_RETRY_SECONDS),
            )

    def enter_background(
        self,
        on_admit: Callable[[], None],
        on_displace: Displace,
        *,
        caller: str = "anonymous",
        priority: int = 1,
        cost: float = 1.0,
    ) -> Ticket:
        """Take a place for background work; `on_admit` may be called before this returns.

        Raises:
            QueueFull: too much of it runs and waits; says when to try again.
        """
        self.check_background_room(1)
        ticket = Ticket(self, on_admit, on_displace=on_displace)
        ticket._entry = self._background.push(ticket, caller, priority, cost)
        self._admit()
        return ticket

    def position(self, ticket: Ticket) -> int:
        """How many waiting requests of its class are ahead of this one."""
        if not ticket.is_waiting or ticket._entry is None:
            return 0
        if ticket.is_background:
            return self._background.position(ticket._entry)
        return self._queue.position(ticket._entry)

    def eta_seconds(self, position: int) -> float | None:
        """Estimated wait of the request at that position."""
        if self._hold_seconds is None:
            return None
        return (position + 1) / self.max_running * self._hold_seconds

    def release(self, ticket: Ticket, actual_cost: float | None = None) -> None:
        """Free the ticket's place and admit the next requests."""
        entry, state = ticket._entry, ticket._state
        assert entry is not None
        ticket._state = _State.LEFT
        if ticket.is_background:
            if state is _State.RUNNING:
                self._background.end(entry, actual_cost)
            elif state is _State.WAITING:
                self._background.drop(entry)
        elif state is _State.RUNNING:
            self._running -= 1
            self._learn(ticket)
            if actual_cost is not None:
                self._queue.correct(entry, actual_cost)
        elif state is _State.WAITING:
            self._queue.remove(entry)
        self._admit()

    def _admit(self) -> None:
        """Admit as many as there are slots for.

        Callbacks may call this again; the loop under way continues for them, so that a thousand
        requests that leave when they are admitted do not nest a thousand frames.
        """
        if self._is_admitting:
            return
        self._is_admitting = True
        try:
            while (ticket := self._next()) is not None or self._displace():
                if ticket is not None:
                    ticket._state = _State.RUNNING
                    ticket.admitted_at = self._clock()
                    ticket.on_admit()
        finally:
            self._is_admitting = False
        if not self._running and not self._queue:
            self._queue.rest()
        self._background.rest()

    def _next(self) -> Ticket | None:
        """Whose turn it is now, if anybody's: it has a slot from now on."""
        line = self._background
        if self._queue:
            if self._free_slots <= 0:
                return None
            self._running += 1
            return self._queue.pop().item
        return line.admit() if line.has_next(self._running, self._free_slots) else None

    @property
    def _free_slots(self) -> int:
        return self.max_running - self._running - self._background.slots_taken

    def _displace(self) -> bool:
        """Ask background work for its slot, if a request waits for one; whether there was any."""
        line = self._background
        if line.bounds.runs_beside or len(self._queue) <= self._free_slots + line.leaving:
            return False
        ticket = line.give_way()
        if ticket is None or ticket.on_displace is None:
            return False
        ticket.on_displace(
            Displaced(
                "this background request gave its slot to another one; send it again",
                retry_after_seconds=self._jittered(MIN_RETRY_SECONDS),
            )
        )
        return True

    def _victim_for(self, caller: str, priority: int) -> Entry[Ticket] | None:
        """The entry that must leave so that this caller can enter; `None` while there is room.

        Raises:
            QueueFull: there is no room, and nobody has clearly more waiting.
        """
        if self._running + len(self._queue) < self.max_running + self.max_waiting:
            return None
        victims = self._queue.longest(1, caller, priority)
        if not victims or not _can_be_told(victims[0]):
            raise self._full()
        return victims[0]

    def _check_patience(
        self, patience_seconds: float, caller: str, victim: Entry[Ticket] | None
    ) -> None:
        position = self._queue.next_position(caller)
        if victim is not None and self._queue.position(victim) < position:
            position -= 1
        if position < self.max_running - self._running:
            return
        eta = self.eta_seconds(position)
        if eta is not None and eta > patience_seconds:
            raise DeadlineUnreachable(
                f"the wait for a slot would be about {eta:.0f} s and this request waits at most "
                f"{patience_seconds:.0f} s; try again later",
                retry_after_seconds=self._jittered(eta - patience_seconds),
            )

    def _learn(self, ticket: Ticket) -> None:
        assert ticket.admitted_at is not None
        held = self._clock() - ticket.admitted_at
        previous = held if self._hold_seconds is None else self._hold_seconds
        self._hold_seconds = previous + SMOOTHING * (held - previous)

    def _full(self) -> QueueFull:
        return QueueFull(
            f"{self._running} of at most {self.max_running} requests are running and "
            f"{len(self._queue)} of {self.max_waiting} waiting; try again later",
            retry_after_seconds=self._jittered(
                self.eta_seconds(len(self._queue)) or MIN_RETRY_SECONDS
            ),
        )

    def _jittered(self, seconds: float) -> float:
        bounded = min(max(seconds, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
        return bounded * self._rng.uniform(1.0, 1.0 + JITTER)


def _can_be_told(entry: Entry[Ticket]) -> bool:
    return entry.item.on_push_out is not None
