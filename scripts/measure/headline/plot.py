"""A run as a picture: every request at the headline's rate, and the demo model's latencies."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: there is no screen

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from measure.headline.plan import DEMO, SIMULATED
from measure.headline.run import FLASK, LLMSERVE, Run

COLORS: Final = {LLMSERVE: "#1f6fb4", FLASK: "#d9730d"}
SIZE_INCHES: Final = (11, 4.2)
DPI: Final = 110


def draw(run: Run, file: Path) -> None:
    """Write the picture in the format that the file's name ends with."""
    figure, (left, right) = plt.subplots(1, 2, figsize=SIZE_INCHES, width_ratios=(1.6, 1))
    _draw_requests(run, left)
    _draw_shares(run, right)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.tight_layout()
    figure.savefig(file, dpi=DPI)
    plt.close(figure)


def _draw_requests(run: Run, axes: Axes) -> None:
    plan = run.plan
    workers = {LLMSERVE: plan.llmserve_workers, FLASK: plan.flask_workers}
    for server, color in COLORS.items():
        measured = run.of(server, SIMULATED)
        answered = [o for o in measured.outcomes if o.error is None]
        lost = [o.scheduled for o in measured.outcomes if o.error is not None]
        axes.scatter(
            [o.scheduled for o in answered],
            [o.latency for o in answered],
            s=7,
            color=color,
            linewidths=0,
            label=f"{server}, {workers[server]} workers",
        )
        if lost:
            axes.scatter(
                lost,
                [plan.timeout_seconds] * len(lost),
                marker="x",
                s=22,
                color=color,
                linewidths=0.7,
                label=f"{server}: no answer ({len(lost):,})",
            )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(plan.forward_seconds * 0.6, plan.timeout_seconds * 1.6)
    axes.set_xlabel("when the request was due (s)")
    axes.set_ylabel("latency (s)")
    axes.set_title(
        f"{plan.simulated.rate:g} requests/s, a model of {plan.forward_seconds * 1000:g} ms",
        fontsize=11,
    )
    # Between the two: below the client's patience, above what a steady server takes.
    axes.legend(
        frameon=False, fontsize=9, markerscale=2, loc="center right", bbox_to_anchor=(1, 0.7)
    )


def _draw_shares(run: Run, axes: Axes) -> None:
    load = run.plan.demo
    for server, color in COLORS.items():
        outcomes = run.of(server, DEMO).outcomes
        latencies = sorted(o.latency * 1000 for o in outcomes if o.error is None)
        shares = [100 * (n + 1) / len(outcomes) for n in range(len(latencies))]
        axes.step(latencies, shares, where="post", color=color, label=server)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 101)
    axes.set_xlabel("latency (ms)")
    axes.set_ylabel("requests answered by then (%)")
    axes.set_title(f"{load.rate:g} requests/s, demo model, {load.max_tokens} tokens", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
