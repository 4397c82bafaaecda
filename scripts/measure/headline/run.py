"""What a whole run measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from measure.headline.outcome import Outcome, Summary
from measure.headline.plan import Load, Plan

LLMSERVE: Final = "llmserve"
FLASK: Final = "Flask/Gunicorn"


@dataclass(frozen=True, slots=True)
class Measured:
    """One server under one load. CPU is seconds, over the load and its answers.

    `others_cpu_share` is what everything else on the machine took of the cores meanwhile.
    """

    server: str
    load: Load
    outcomes: tuple[Outcome, ...]
    summary: Summary
    server_cpu_seconds: float
    client_cpu_seconds: float
    others_cpu_share: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that was measured. `overhead` is `generate` beside its forward pass."""

    plan: Plan
    measured: tuple[Measured, ...]
    calibration: Summary
    overhead: Mapping[str, float]
    machine: Mapping[str, Any]

    @property
    def others_cpu_share(self) -> float:
        """In the load that others disturbed most."""
        return max(measured.others_cpu_share for measured in self.measured)

    def of(self, server: str, model: str) -> Measured:
        """The one measurement of a server with a model."""
        return next(m for m in self.measured if (m.server, m.load.model) == (server, model))
