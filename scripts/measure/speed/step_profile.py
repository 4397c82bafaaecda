"""Where a step's time goes: the step loop's reports, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from llmserve.engines.step_report import StepReport

PARTS = {
    "plan": "plan",
    "prepare": "plan to tensors",
    "compute": "forward and sampling",
    "commit": "commit",
    "publish": "detokenize and publish",
}
"""Fields of `StepParts`, as the table names them."""


class StepProfile:
    """Seconds spent in each part, over all steps within `timed`."""

    def __init__(self) -> None:
        self._is_timed = False
        self._steps = 0
        self._whole = 0.0
        self._seconds: Counter[str] = Counter()

    def add(self, report: StepReport) -> None:
        """Called after every step."""
        if self._is_timed and report.parts is not None:
            self._steps += 1
            self._whole += report.seconds
            for field in PARTS:
                self._seconds[field] += getattr(report.parts, field)

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
        rows = [("whole step", self._whole)]
        rows += [(part, self._seconds[field]) for field, part in PARTS.items()]
        for part, seconds in rows:
            share = seconds / self._whole
            lines.append(f"| {part} | {1000 * seconds / self._steps:.2f} | {share:.1%} |")
        return "\n".join(lines)
