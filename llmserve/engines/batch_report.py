"""What an encoder tells of each of its batches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Inputs that were computed together, for the metrics.

    Attributes:
        seconds: all of it.
        inputs: texts and pairs.
        tokens: of the inputs.
        padding: tokens that were computed beside them.
        fill: the share of a batch's tokens that it had; more than 1 where one input is longer.
    """

    seconds: float
    inputs: int
    tokens: int
    padding: int
    fill: float
