"""Where a step's time goes: the step loop's reports, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from llmserve.engines.batching.loop import StepReport

PARTS = {
    "seconds": "whole step",
    "plan_seconds": "plan",
    "prepare_seconds": "plan to tensors",
    "compute_seconds": "forward and sampling",
    "commit_seconds": "commit",
    "publish_seconds": "detokenize and publish",
}
"""Fields of a report, as the table names them."""


class StepProfile:
    """Seconds spent in each part, over all steps within `timed`."""

    def __init__(self) -> None:
        self._is_timed = False
        self._steps = 0
        self._seconds: Counter[str] = Counter()

    def add(self, report: StepReport) -> None:
        """Called after every step."""
        if self._is_timed:
            self._steps += 1
            for field in PARTS:
                self._seconds[field] += getattr(report, field)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Reports count within."""
        self._is_timed = True
        try:
            yield
        finally:
            self._is_timed = False

    def as_markdown(self) -> str:
        """Milliseconds per step and share of the whole."""
        lines = ["| part | ms per step | share |", "| --- | ---: | ---: |"]
        for field, part in PARTS.items():
            seconds = self._seconds[field]
            share = seconds / self._seconds["seconds"]
            lines.append(f"| {part} | {1000 * seconds / self._steps:.2f} | {share:.1%} |")
        return "\n".join(lines)
