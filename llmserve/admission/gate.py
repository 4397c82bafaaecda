"""The gate: a bounded number of callers run, a bounded number wait, the rest are told when
to come back. Knows nothing of models or HTTP.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from llmserve.errors import InvalidRequest, QueueFull

MIN_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 300.0
JITTER: Final = 0.25
SMOOTHING: Final = 0.2


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    LEFT = auto()


class Ticket:
    """A caller's place: waiting, then running, then given back.

    `on_admit` is called once, when the caller's turn comes; it must not block.
    """

    def __init__(self, gate: Gate, on_admit: Callable[[], None]) -> None:
        self._gate = gate
        self._state = _State.WAITING
        self.on_admit = on_admit
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

    def release(self) -> None:
        """Give the place back, in whatever state; doing it twice is harmless."""
        self._gate.release(self)


class Gate:
    """At most `max_running` callers run and `max_waiting` wait, first come first served.

    Owned by the event loop's thread. When both are full, `enter` raises `QueueFull` with the
    time after which a place should be free: places ahead ÷ slots × the smoothed time that a
    caller holds a slot, jittered so that those turned away do not return together.
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
        self._waiting: deque[Ticket] = deque()
        self._running = 0
        self._hold_seconds: float | None = None

    @property
    def running(self) -> int:
        """Callers that hold a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._waiting)

    def check_room(self, count: int) -> None:
        """Whether so many callers could enter now.

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
        if count > most - self._running - len(self._waiting):
            raise self._full()

    def enter(self, on_admit: Callable[[], None]) -> Ticket:
        """Take a place; `on_admit` may be called before this returns.

        Raises:
            QueueFull: no slot and no place in the queue; says when to try again.
        """
        ticket = Ticket(self, on_admit)
        if self._running < self.max_running and not self._waiting:
            self._admit(ticket)
        elif len(self._waiting) < self.max_waiting:
            self._waiting.append(ticket)
        else:
            raise self._full()
        return ticket

    def position(self, ticket: Ticket) -> int:
        """How many waiting callers are ahead of this one."""
        try:
            return self._waiting.index(ticket)
        except ValueError:
            return 0

    def eta_seconds(self, position: int) -> float | None:
        """Estimated wait for the caller at that position."""
        if self._hold_seconds is None:
            return None
        return (position + 1) / self.max_running * self._hold_seconds

    def release(self, ticket: Ticket) -> None:
        """Free the ticket's place and let the next callers in."""
        if ticket._state is _State.RUNNING:
            self._running -= 1
            self._learn(ticket)
        elif ticket._state is _State.WAITING:
            self._waiting.remove(ticket)
        ticket._state = _State.LEFT
        while self._waiting and self._running < self.max_running:
            self._admit(self._waiting.popleft())

    def _admit(self, ticket: Ticket) -> None:
        ticket._state = _State.RUNNING
        ticket.admitted_at = self._clock()
        self._running += 1
        ticket.on_admit()

    def _learn(self, ticket: Ticket) -> None:
        assert ticket.admitted_at is not None
        held = self._clock() - ticket.admitted_at
        previous = held if self._hold_seconds is None else self._hold_seconds
        self._hold_seconds = previous + SMOOTHING * (held - previous)

    def _full(self) -> QueueFull:
        return QueueFull(
            f"{self._running} requests are running and {len(self._waiting)} waiting, "
            f"of {self.max_running} and {self.max_waiting} that may; try again later",
            retry_after_seconds=self._retry_after_seconds(),
        )

    def _retry_after_seconds(self) -> float:
        eta = self.eta_seconds(len(self._waiting)) or MIN_RETRY_SECONDS
        bounded = min(max(eta, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
        return bounded * self._rng.uniform(1.0, 1.0 + JITTER)
