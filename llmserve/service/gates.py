"""The gates before the engines: one for each loaded model."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from llmserve.admission.gate import Gate
from llmserve.domain import Caller
from llmserve.engines.engine import Engine
from llmserve.registry.served import ServedModel
from llmserve.service.limits import Limits


class Gates:
    """Owned by the event loop. A gate goes with its engine."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._gates: WeakKeyDictionary[Engine, Gate] = WeakKeyDictionary()

    def of(self, served: ServedModel) -> Gate:
        """That of a model which is loaded."""
        engine = served.loaded_engine
        gate = self._gates.get(engine)
        if gate is None:
            limits = self._limits
            gate = Gate(
                engine.capacity,
                limits.max_waiting,
                self._clock,
                background=limits.background(engine),
            )
            self._gates[engine] = gate
        return gate

    def load(self, model: ServedModel) -> tuple[int, int]:
        """How many generations of a model are running and waiting, without background work."""
        gate = self._gates.get(model.engine) if model.engine is not None else None
        return (gate.running, gate.waiting) if gate is not None else (0, 0)

    def background_load(self, model: ServedModel) -> tuple[int, int]:
        """How many of them are running and waiting in the background."""
        gate = self._gates.get(model.engine) if model.engine is not None else None
        return (gate.background_running, gate.background_waiting) if gate is not None else (0, 0)

    def check_room(self, count: int, served: ServedModel, caller: Caller, deadline: float) -> None:
        """Check that so many requests could be taken now.

        Raises:
            InvalidRequest: there are too many even for an idle server.
            QueueFull: not now.
            DeadlineUnreachable: the first would wait for longer than it may.
        """
        if caller.is_background:
            self.of(served).check_background_room(count)
            return
        patience = min(self._limits.wait_timeout_seconds, deadline - self._clock())
        self.of(served).check_room(
            count,
            caller=caller.name,
            priority=caller.priority,
            patience_seconds=max(0.0, patience),
        )
