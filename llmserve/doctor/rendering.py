"""A report for people: a table, then what to change."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmserve.doctor.finding import Verdict
from llmserve.doctor.report import Report
from llmserve.printable import printable

STYLES: Final = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "bold red",
    Verdict.SKIPPED: "dim",
}


def render(report: Report, console: Console) -> None:
    """Print the report. A server's text is never interpreted as markup or by the terminal."""
    table = Table("check", "verdict", "what was seen", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[1].no_wrap = True
    for finding in report.findings:
        table.add_row(
            Text(finding.name), Text(finding.verdict.value, STYLES[finding.verdict]),
            Text(printable(finding.seen)),
        )  # fmt: skip
    console.print(table)
    _print_changes(report, console)
    counts = [(report.num(v), v) for v in Verdict if report.num(v)]
    console.print()
    console.print(Text(f"{report.url}: " + ", ".join(f"{n} {v.value}" for n, v in counts)))


def _print_changes(report: Report, console: Console) -> None:
    advised = [finding for finding in report.findings if finding.change]
    if not advised:
        return
    console.print()
    console.print(Text("What to change", "bold"))
    for finding in advised:
        console.print(Text(finding.name, STYLES[finding.verdict]))
        for line in finding.change:
            # Not wrapped, so that lines can be copied.
            console.print(Text(printable(f"  {line}")), soft_wrap=True)
