"""What decides which models stay loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """What decides which models stay loaded.

    Attributes:
        memory_bytes: for all loaded models together, `None` for no bound.
        idle_seconds: a model unused for so long is unloaded, `None` for never.
        unload_seconds: how long unloading waits for open leases.
    """

    memory_bytes: int | None = None
    idle_seconds: float | None = None
    unload_seconds: float = 30.0
