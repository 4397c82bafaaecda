"""How many requests a box takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BoxLimits:
    """As the settings of the same names; `max_running` is the profile's if absent.

    `expected_tokens` is what fair queueing charges for an answer before its end.
    """

    max_running: int | None = None
    max_waiting: int = 256
    wait_timeout_seconds: float = 60.0
    expected_tokens: int = 256
