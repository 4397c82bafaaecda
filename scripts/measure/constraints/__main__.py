"""`scripts/bench-constraints`: the engine alone, a random model of a preset's shape, one run."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from make_model import make_model

from llmserve.engines.step_report import StepReport
from measure.constraints.compiling import itl_beside_compiling
from measure.constraints.steps import step_seconds
from measure.itl_table import itl_table
from measure.speed.loop_alone import build

ROWS = 8
TOKENS = 64
ROUNDS = 2
CACHE_BYTES = 2**28


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="bench-constraints", description=__doc__)
    parser.add_argument("--preset", default="smollm2-135m", help="a random model of this shape")
    parser.add_argument("--quick", action="store_true", help="a smoke test, claims nothing")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch) / "model"
        make_model(arguments.preset, folder)
        print(asyncio.run(_measure(folder, is_quick=arguments.quick)))
    return 0


async def _measure(folder: Path, *, is_quick: bool) -> str:
    reports: list[StepReport] = []
    engine = await build(folder, ROWS + 1, CACHE_BYTES, reports.append)
    rounds, tokens = (1, 16) if is_quick else (ROUNDS, TOKENS)
    try:
        steps = await step_seconds(engine, reports, ROWS, tokens, rounds)
        count, seconds = (5, 3.0) if is_quick else (100, 60.0)
        print("\n".join(_steps_table(steps)), flush=True)
        quiet, beside = await itl_beside_compiling(engine, count, seconds)
    finally:
        await engine.close()
    return "\n".join(["", *itl_table(f"{count} new schemas in {seconds:.0f} s", quiet, beside)])


def _steps_table(steps: dict[str, list[float]]) -> list[str]:
    plain = statistics.median(steps["none"])
    lines = [
        f"A decode step of {ROWS} rows, median of all rounds, taken in turn:",
        "",
        "| constraint of every row | ms per step | over none |",
        "| --- | ---: | ---: |",
    ]
    for name, seconds in steps.items():
        each = statistics.median(seconds)
        lines.append(f"| {name} | {1e3 * each:.2f} | {100 * (each / plain - 1):+.1f} % |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
