"""All findings about one server."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.doctor.finding import Finding, Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, in the order of the checks."""

    url: str
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 if there is a problem; 0 with warnings alone."""
        return int(self.num(Verdict.PROBLEM) > 0)

    def num(self, verdict: Verdict) -> int:
        """How many findings have this verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """The report as `--json` shows it."""
        return {
            "url": self.url,
            "exit_code": self.exit_code,
            "findings": [finding.as_json() for finding in self.findings],
        }
