"""A stream's inter-token latency, alone and beside something, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence


def itl_table(what: str, alone: Sequence[float], beside: Sequence[float]) -> list[str]:
    """Lines of Markdown, from the seconds between tokens; `what` the stream was beside of."""
    median = statistics.median(alone)
    figures: list[tuple[str, Callable[[Sequence[float]], float]]] = [
        ("median", statistics.median),
        ("p99", _p99),
        ("max", max),
    ]
    lines = [
        f"One stream's inter-token latency beside {what}:",
        "",
        "| | alone, ms | beside, ms | beside ÷ median alone |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, of in figures:
        quiet, busy = of(alone), of(beside)
        lines.append(f"| {name} | {1e3 * quiet:.1f} | {1e3 * busy:.1f} | {busy / median:.2f} × |")
    return lines


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[int(0.99 * (len(ordered) - 1))]
