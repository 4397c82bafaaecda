"""The results as Markdown and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure.speed.ceilings import Ceilings
from measure.speed.intrusion import Intrusion
from measure.speed.limits import ModelShape, Workload, limit

LOOP = "engine loop alone"
LIMIT, ROOF = "limit", "limit, few rows at the rate of many"


@dataclass(slots=True)
class Results:
    """Everything that one run found out.

    Attributes:
        ceilings: as measured several times among a workload's runs, the best of each.
        spread: memory read in bytes per second, the least and the most of all times.
        speeds: by name of what was measured, output tokens/s by workload, the median of its runs.
        ttft: by name, seconds to the first token, the median of the runs' medians.
        missing: what could not be measured, and why.
        profiles: where the time goes, tables by what they are about.
        prefix: seconds to the first token with a new prefix, and with a known one.
    """

    machine: str
    model: str
    shape: ModelShape
    ceilings: dict[Workload, Ceilings] = field(default_factory=dict)
    spread: tuple[float, float] = (float("inf"), 0.0)
    speeds: dict[str, dict[Workload, float]] = field(default_factory=dict)
    ttft: dict[str, dict[Workload, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    intrusion: Intrusion | None = None
    prefix: tuple[float, float] | None = None
    profiles: dict[str, str] = field(default_factory=dict)

    def add_ceilings(self, work: Workload, several: Sequence[Ceilings]) -> None:
        """What the machine could do at the times when a workload ran."""
        self.ceilings[work] = Ceilings.best(several)
        rates = [it.bytes_per_second for it in several]
        self.spread = min(*rates, self.spread[0]), max(*rates, self.spread[1])

    def add_speed(self, name: str, work: Workload, tokens_per_second: Sequence[float]) -> None:
        """Output tokens/s of a workload's runs."""
        self.speeds.setdefault(name, {})[work] = statistics.median(tokens_per_second)

    def add_reports(self, name: str, work: Workload, reports: Sequence[Mapping[str, Any]]) -> None:
        """What `llmserve bench` told of a workload's runs."""
        self.add_speed(name, work, [report["output_tokens_per_second"] for report in reports])
        firsts = [report["ttft"]["p50"] for report in reports if report["ttft"]]
        if firsts:
            self.ttft.setdefault(name, {})[work] = statistics.median(firsts)

    @property
    def limits(self) -> dict[Workload, float]:
        """Output tokens/s that the ceilings allow, products at the rate of as many rows."""
        return {work: limit(self.shape, found, work) for work, found in self.ceilings.items()}

    @property
    def roofs(self) -> dict[Workload, float]:
        """The same with all products at the peak rate."""
        return {
            work: limit(self.shape, found.at_peak(), work) for work, found in self.ceilings.items()
        }


def as_markdown(results: Results) -> str:
    """Tables, each figure also as a share of its limit."""
    best = Ceilings.best(results.ceilings.values())
    rates = ", ".join(f"{flops / 1e9:,.0f} at {rows}" for rows, flops in best.flops_by_rows.items())
    least, most = results.spread
    measured = (
        f"Ceilings, measured between the runs: memory read {least / 1e9:.1f} to {most / 1e9:.1f} "
        f"GB/s; bf16 linear 4096², GFLOP/s by rows, at best: {rates}. Each limit is that of the "
        f"best ceilings between its own runs."
    )
    lines = [
        f"Model: {results.model}. Machine: {results.machine}.",
        "",
        measured,
        "",
        "Output tokens/s (share of the limit):",
        "",
        _table(results),
        "",
        "Median time to first token, ms:",
        "",
        _plain_table(results.limits, results.ttft, 1000),
    ]
    if LOOP in results.speeds and "llmserve" in results.speeds:
        shares = [
            f"{work}: {results.speeds['llmserve'][work] / speed:.2f}"
            for work, speed in results.speeds[LOOP].items()
            if work in results.speeds["llmserve"]
        ]
        lines += ["", "Through HTTP ÷ engine loop alone: " + "; ".join(shares) + "."]
    if results.intrusion is not None:
        lines += ["", _intrusion(results.intrusion)]
    if results.prefix is not None:
        lines += ["", _prefix(*results.prefix)]
    lines += [f"\nNot measured: {name}: {why}" for name, why in results.missing.items()]
    for of, table in results.profiles.items():
        lines += ["", f"Where the time goes, {of}:", "", table]
    return "\n".join(lines) + "\n"


def _intrusion(it: Intrusion) -> str:
    return (
        f"A 2,000-token prompt among 8 streams: their inter-token latency has a median of "
        f"{1000 * it.itl_median:.1f} ms and a p99 of {1000 * it.itl_p99:.1f} ms "
        f"({it.itl_p99 / it.itl_median:.2f}×); its own first token came after "
        f"{1000 * it.long_ttft:,.0f} ms."
    )


def _prefix(first: float, second: float) -> str:
    return (
        f"A 1,500-token prefix: first token after {1000 * first:,.0f} ms, with the prefix known "
        f"after {1000 * second:,.0f} ms ({second / first:.2f}×)."
    )


def draw(results: Results, path: Path) -> None:
    """Each workload's speeds as shares of its limit, with the tokens per second written above, and
    the second limit as a line."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    limits, roofs, works = results.limits, results.roofs, list(results.limits)
    figure, axes = pyplot.subplots(figsize=(11, 5))
    width = 0.8 / max(1, len(results.speeds))
    tallest = 1.0
    for number, (name, speeds) in enumerate(results.speeds.items()):
        measured = [(index, work) for index, work in enumerate(works) if work in speeds]
        shares = [speeds[work] / limits[work] for _, work in measured]
        places = [index + number * width for index, _ in measured]
        bars = axes.bar(places, shares, width, label=name)
        axes.bar_label(bars, [f"{speeds[work]:,.0f}" for _, work in measured], fontsize=8)
        tallest = max(tallest, *shares)
    axes.axhline(1.0, color="black", linestyle="dashed", label=LIMIT)
    heights = [roofs[work] / limits[work] for work in works]
    begins = [index - width / 2 for index in range(len(works))]
    ends = [begin + 0.8 for begin in begins]
    axes.hlines(heights, begins, ends, color="black", linestyle="dotted", label=ROOF)
    tallest = max(tallest, *heights)
    names = [f"{work}\nlimit {limit:,.0f}" for work, limit in limits.items()]
    axes.set_xticks([index + 0.4 - width / 2 for index in range(len(works))], names)
    axes.set_ylim(0, 1.3 * tallest)
    axes.set_ylabel("output tokens per second ÷ limit")
    axes.set_title(results.model)
    axes.legend(loc="upper center", ncols=3, fontsize=9, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _table(results: Results) -> str:
    limits, roofs = results.limits, results.roofs
    lines = _head(limits)
    lines.append(_row(LIMIT, [f"{limit:,.0f}" for limit in limits.values()]))
    lines.append(_row(ROOF, [f"{roof:,.0f}" for roof in roofs.values()]))
    for name, speeds in results.speeds.items():
        cells = [
            f"{speeds[work]:,.0f} ({speeds[work] / limit:.2f})" if work in speeds else "-"
            for work, limit in limits.items()
        ]
        lines.append(_row(name, cells))
    return "\n".join(lines)


def _plain_table(
    limits: Mapping[Workload, float], rows: Mapping[str, Mapping[Workload, float]], factor: float
) -> str:
    lines = _head(limits)
    for name, values in rows.items():
        cells = [f"{factor * values[w]:,.0f}" if w in values else "-" for w in limits]
        lines.append(_row(name, cells))
    return "\n".join(lines)


def _head(limits: Mapping[Workload, float]) -> list[str]:
    return [_row("", [str(work) for work in limits]), _row("---", ["---:"] * len(limits))]


def _row(name: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([name, *cells]) + " |"
