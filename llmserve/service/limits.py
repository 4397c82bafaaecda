"""What the service takes on."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.admission.background_line import BackgroundBounds
from llmserve.domain import Caller
from llmserve.engines.engine import Engine


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes on.

    `max_waiting` is per model. `request_timeout_seconds` is both default and upper bound of a
    request's own timeout. Background work has bounds of its own; how much of it runs depends on the
    engine where `max_background_running` is `None`.
    """

    max_waiting: int
    wait_timeout_seconds: float
    request_timeout_seconds: float
    max_background_running: int | None = None
    max_background_waiting: int = 1024
    background_timeout_seconds: float = 86_400.0

    def timeout_for(self, caller: Caller) -> float:
        """Default and upper bound of the time that a caller's request takes."""
        if caller.is_background:
            return self.background_timeout_seconds
        return self.request_timeout_seconds

    def background(self, engine: Engine) -> BackgroundBounds:
        """How much background work an engine does."""
        suits = engine.capacity if engine.can_pause else max(1, engine.capacity // 2)
        return BackgroundBounds(
            self.max_background_running or suits, self.max_background_waiting, engine.can_pause
        )
