"""What the step loop needs of whatever computes its steps. Knows no torch."""

from __future__ import annotations

from typing import Protocol, TypeVar

from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.step_result import StepResult
from llmserve.errors import LLMServeError

Prepared = TypeVar("Prepared")
"""A step as `prepare` lays it out; the loop hands it on to `compute`."""
Row = TypeVar("Row")
"""The sampling state of one stream; the loop hands it on to `compute`."""


class Computation(Protocol[Prepared, Row]):
    """Computes plans. Every method is called on the step loop's thread."""

    def prepare(self, plan: StepPlan) -> Prepared:
        """The part of a step that needs the GIL."""
        ...

    def compute(self, prepared: Prepared, rows: list[Row]) -> StepResult:
        """The next token of each sampled slice, in the plan's order, whose `rows` these are, and
        what is scored. Should release the GIL at once. Computing a step again must be harmless.
        """
        ...

    def diagnose(self, error: Exception) -> LLMServeError:
        """Our error for what a step or a prompt raised; releases what the error holds."""
        ...

    def is_lost(self) -> bool:
        """Whether nothing can be computed any more; asked after every failure."""
        ...
