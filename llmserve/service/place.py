"""What a request holds of a model until it is over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from llmserve.admission.gate import Gate, Ticket
from llmserve.domain import Caller
from llmserve.errors import QueueFull


class Place:
    """A ticket for the gate, a lease of the model and a share of the key's limits.

    Every request that uses a model holds a place until the engine is done with it, whether or not
    it generates. The place is given back once, however often `give_back` is called. Owned by the
    event loop.
    """

    def __init__(
        self,
        gate: Gate,
        caller: Caller,
        *,
        release_lease: Callable[[], None],
        charge: Callable[[int], None],
        on_change: Callable[[], None],
    ) -> None:
        """`charge` takes the tokens that were not charged on admission; `on_change` is called when
        the gate has other numbers."""
        self._gate = gate
        self._caller = caller
        self._release_lease = release_lease
        self._charge = charge
        self._on_change = on_change
        self._ticket: Ticket | None = None
        self._is_held = True

    def enter(
        self,
        on_admit: Callable[[], None],
        on_push_out: Callable[[QueueFull], None],
        *,
        cost: float,
        patience_seconds: float,
    ) -> None:
        """Take a ticket; `on_admit` is called when the turn comes, at once perhaps, and
        `on_push_out` if the gate gives the turn to a caller who has less. The place is given back
        if the gate refuses.

        Raises:
            QueueFull: the gate has no place left.
            DeadlineUnreachable: the turn would come too late.
        """

        def admitted() -> None:
            on_admit()
            self._on_change()

        with contextlib.ExitStack() as refused:
            refused.callback(self.give_back)
            self._ticket = self._gate.enter(
                admitted,
                caller=self._caller.name,
                priority=self._caller.priority,
                cost=cost,
                patience_seconds=patience_seconds,
                on_push_out=on_push_out,
            )
            refused.pop_all()
        self._on_change()

    @property
    def is_waiting(self) -> bool:
        """Whether the turn has not come yet."""
        return self._ticket is not None and self._ticket.is_waiting

    @property
    def position(self) -> int:
        """How many callers are ahead."""
        return self._ticket.position if self._ticket is not None else 0

    @property
    def eta_seconds(self) -> float | None:
        """About how long until the turn comes, where that is known."""
        return self._ticket.eta_seconds if self._ticket is not None else None

    def give_back(self, cost: float | None = None, tokens: int = 0) -> None:
        """The request is over. `cost` is what it came to, `None` where it never had its turn;
        `tokens` are those that were not charged yet, negative where too many were."""
        if not self._is_held:
            return
        self._is_held = False
        if self._ticket is not None:
            self._ticket.release(cost)
        self._release_lease()
        self._charge(tokens)
        self._on_change()
