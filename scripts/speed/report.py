"""The results as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speed.ceilings import Ceilings
from speed.intrusion import Intrusion
from speed.limits import Workload

LOOP = "engine loop alone"


@dataclass(slots=True)
class Results:
    """Everything that one run found out.

    Attributes:
        limits: output tokens/s that the ceilings allow.
        speeds: by name of what was measured, output tokens/s by workload.
        missing: what could not be measured, and why.
        profiles: where the time goes, tables by what they are about.
        prefix: seconds to the first token with a new prefix, and with a known one.
    """

    machine: str
    model: str
    ceilings: Ceilings
    limits: dict[Workload, float]
    speeds: dict[str, dict[Workload, float]] = field(default_factory=dict)
    ttft: dict[str, dict[Workload, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    intrusion: Intrusion | None = None
    prefix: tuple[float, float] | None = None
    profiles: dict[str, str] = field(default_factory=dict)


def as_markdown(results: Results) -> str:
    """Tables, each figure also as a share of its limit."""
    ceilings = results.ceilings
    rates = ", ".join(
        f"{flops / 1e9:,.0f} at {rows}" for rows, flops in ceilings.flops_by_rows.items()
    )
    measured = (
        f"Ceilings, measured in this run: memory read {ceilings.bytes_per_second / 1e9:.1f} GB/s; "
        f"bf16 linear 4096², GFLOP/s by rows: {rates}."
    )
    lines = [
        f"Model: {results.model}. Machine: {results.machine}.",
        "",
        measured,
        "",
        "Output tokens/s (share of the limit):",
        "",
        _table(results.limits, results.speeds),
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
    """Each workload's speeds as shares of its limit, with the tokens per second written above."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    works = list(results.limits)
    figure, axes = pyplot.subplots(figsize=(11, 5))
    width = 0.8 / max(1, len(results.speeds))
    for number, (name, speeds) in enumerate(results.speeds.items()):
        measured = [(index, work) for index, work in enumerate(works) if work in speeds]
        bars = axes.bar(
            [index + number * width for index, _ in measured],
            [speeds[work] / results.limits[work] for _, work in measured],
            width, label=name,
        )  # fmt: skip
        axes.bar_label(bars, [f"{speeds[work]:,.0f}" for _, work in measured], fontsize=8)
    axes.axhline(1.0, color="black", linestyle="dashed")
    names = [f"{work}\nlimit {limit:,.0f}" for work, limit in results.limits.items()]
    axes.set_xticks([index + 0.4 - width / 2 for index in range(len(works))], names)
    axes.set_ylim(0, 1.25)
    axes.set_ylabel("output tokens per second ÷ the hardware's limit")
    axes.set_title(results.model)
    axes.legend(loc="upper center", ncols=len(results.speeds), fontsize=9, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _table(limits: Mapping[Workload, float], rows: Mapping[str, Mapping[Workload, float]]) -> str:
    lines = _head(limits)
    lines.append(_row("limit", [f"{limit:,.0f}" for limit in limits.values()]))
    for name, speeds in rows.items():
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
