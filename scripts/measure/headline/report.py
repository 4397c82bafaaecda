"""A run in words: the Markdown table, and the figures as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from measure.headline.outcome import Summary
from measure.headline.plan import SIMULATED
from measure.headline.run import FLASK, LLMSERVE, Measured, Run
from measure.headline.verdict import Verdict, judge

HEAD = (
    "| model and load | server | offered | answered | errors | P50 | P99 | max "
    "| P99 of answered | CPU | memory |\n"
    "|---|---|--:|--:|---|--:|--:|--:|--:|--:|--:|"
)


def verdict(run: Run) -> Verdict | None:
    """Whether the claim holds in this run; a smoke run claims nothing."""
    if run.plan.is_smoke:
        return None
    return judge(
        run.of(LLMSERVE, SIMULATED).summary,
        run.of(FLASK, SIMULATED).summary,
        run.plan.timeout_seconds,
    )


def as_markdown(run: Run) -> str:
    """The table with what one has to know to read it."""
    ordered = sorted(run.measured, key=lambda m: m.load.model, reverse=True)
    rows = "\n".join(_row(m, run) for m in ordered)
    claim = "A smoke run claims nothing" if run.plan.is_smoke else f"The claim {verdict(run)}"
    return f"{HEAD}\n{rows}\n\n{claim}.\n\n{_notes(run)}\n"


def as_json(run: Run) -> str:
    """Every figure, without the single requests; JSON has no infinity, so that is null."""
    judged = verdict(run)
    figures = {
        "verdict": None if judged is None else asdict(judged) | {"holds": judged.holds},
        "plan": asdict(run.plan),
        "machine": dict(run.machine),
        "generate_overhead": dict(run.overhead),
        "client_alone": asdict(run.calibration),
        "measured": [
            {
                "server": m.server,
                "model": m.load.model,
                "server_cpu_seconds": m.server_cpu_seconds,
                "client_cpu_seconds": m.client_cpu_seconds,
                "others_cpu_share": m.others_cpu_share,
                "memory_bytes": m.memory_bytes,
                **asdict(m.summary),
            }
            for m in run.measured
        ],
    }
    return json.dumps(_finite(figures), indent=2) + "\n"


def _row(measured: Measured, run: Run) -> str:
    load, summary, patience = measured.load, measured.summary, run.plan.timeout_seconds
    workers = {LLMSERVE: run.plan.llmserve_workers, FLASK: run.plan.flask_workers}
    tokens = f"{load.max_tokens} token{'s' if load.max_tokens > 1 else ''}"
    cells = (
        f"{load.model}, {tokens}, {load.seconds:g} s",
        f"{measured.server}, {workers[measured.server]} workers",
        f"{summary.offered_per_second:.1f}/s",
        f"{summary.answered_per_second:.1f}/s",
        _errors(summary),
        *(_seconds(s, patience) for s in (summary.p50, summary.p99, summary.maximum)),
        _seconds(summary.p99_answered, patience),
        f"{measured.server_cpu_seconds:.1f} s",
        f"{measured.memory_bytes / 2**20:,.0f} MiB",
    )
    return f"| {' | '.join(cells)} |"


def _errors(summary: Summary) -> str:
    kinds = (f"{count:,} × {kind}" for kind, count in sorted(summary.errors.items()))
    return ", ".join(kinds) or "none"


def _seconds(seconds: float, patience: float) -> str:
    if math.isinf(seconds):
        return f"> {patience:g} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _notes(run: Run) -> str:
    machine, alone, late = run.machine, run.calibration, run.of(LLMSERVE, SIMULATED)
    libraries = ", ".join(
        f"{name} {machine[name]}" for name in ("torch", "transformers", "uvicorn", "gunicorn")
    )
    return (
        f"Client and servers share {machine['cores']} cores without a GPU; Python "
        f"{machine['python']}, {libraries}. Poisson arrivals with seed {run.plan.seed}, the same "
        "for both; latency counts from when a request was due, and a request without a right "
        f"answer after {run.plan.timeout_seconds:g} s is an error. `answered` is per second "
        "until the last request was answered or given up. The simulated model sleeps "
        f"{run.plan.forward_seconds * 1000:g} ms per token; `generate` adds "
        f"{run.overhead['wall_seconds'] * 1000:.1f} ms. The client alone, against a server that "
        f"only waits: P99 {_seconds(alone.p99, run.plan.timeout_seconds)}. During llmserve's load "
        f"it took {late.client_cpu_seconds:.1f} s of CPU and sent 99 % of the requests within "
        f"{late.summary.p99_late_sends * 1000:.1f} ms of when they were due. "
        f"Everything else on the machine took at most {run.others_cpu_share:.0%} of the cores "
        "meanwhile."
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
