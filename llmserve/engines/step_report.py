"""What an engine tells of each of its steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepReport:
    """One forward pass and what belongs to it, for the metrics.

    Attributes:
        seconds: all of it.
        tokens: computed, prompt and answer.
        sampled: answer tokens made.
    """

    seconds: float
    tokens: int
    sampled: int
