"""What one check found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Figure = str | float | int | bool | None
Change = tuple[str, ...]


class Verdict(StrEnum):
    """The severity; a problem makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report.

    Attributes:
        name: the check.
        seen: what was measured, as text.
        change: what to do about it, one line per program that may be the cause.
        figures: the measurements, for machines.
    """

    name: str
    verdict: Verdict
    seen: str
    change: Change = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The finding as `--json` shows it."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "seen": self.seen,
            "change": list(self.change),
            "figures": dict(self.figures),
        }
