"""`scripts/bench-adapters`: the engine alone, a random model of a preset's shape, one run."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from make_model import make_model

from llmserve.domain import AdapterSpec
from llmserve.engines.step_report import StepReport
from measure.adapters.loading import itl_beside_loading
from measure.adapters.making import make_adapter
from measure.adapters.steps import Measured, Rows, step_seconds
from measure.itl_table import itl_table
from measure.speed.loop_alone import build

ROWS = 8
ADAPTERS = 4
TOKENS = 64
ROUNDS = 5
SECONDS = 20.0
CACHE_BYTES = 2**28


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="bench-adapters", description=__doc__)
    parser.add_argument("--preset", default="smollm2-135m", help="a random model of this shape")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="a smoke test, claims nothing")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch) / "model"
        make_model(arguments.preset, folder)
        adapters = [
            make_adapter(folder, Path(scratch) / f"adapter-{number}", arguments.rank, number)
            for number in range(ADAPTERS)
        ]
        print(asyncio.run(_measure(folder, adapters, is_quick=arguments.quick)))
    return 0


async def _measure(folder: Path, adapters: Sequence[Path], *, is_quick: bool) -> str:
    reports: list[StepReport] = []
    engine = await build(folder, ROWS + 1, CACHE_BYTES, reports.append)
    rounds, tokens, seconds = (1, 16, 2.0) if is_quick else (ROUNDS, TOKENS, SECONDS)
    try:
        print(engine.info.why, end="\n\n")
        names = []
        for path in adapters:
            info = await engine.load_adapter(AdapterSpec(path.name, path=path), path)
            names.append(info.name)
            print(f"{info.name}: rank {info.rank}, {info.num_bytes / 2**20:.1f} MiB")
        kinds: dict[str, Rows] = {
            "no adapter": [None] * ROWS,
            "one adapter": [names[0]] * ROWS,
            f"{ADAPTERS} adapters": [names[row % ADAPTERS] for row in range(ROWS)],
            f"half of the rows over {ADAPTERS} adapters": [
                names[row // 2] if row % 2 else None for row in range(ROWS)
            ],
        }
        steps = await step_seconds(engine, reports, kinds, tokens, rounds)
        print("\n".join(_steps_table(steps)), flush=True)
        quiet, beside, loads = await itl_beside_loading(engine, adapters, seconds)
    finally:
        await engine.close()
    took = f"A load took {1e3 * statistics.median(loads):.0f} ms (median)."
    table = itl_table(f"{len(loads)} loads", quiet, beside)
    return "\n".join(["", *table, "", took])


def _steps_table(steps: dict[str, Measured]) -> list[str]:
    plain = next(iter(steps.values()))
    lines = [
        "",
        f"A decode step of {ROWS} rows, medians of all rounds, taken in turn:",
        "",
        "| rows have | ms per step | over none | CPU ms per step | over none |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, measured in steps.items():
        each = statistics.median(measured.seconds)
        cpu = statistics.median(measured.cpu_seconds)
        over = each / statistics.median(plain.seconds) - 1
        over_cpu = cpu / statistics.median(plain.cpu_seconds) - 1
        lines.append(
            f"| {name} | {1e3 * each:.2f} | {100 * over:+.1f} % | {1e3 * cpu:.2f} | "
            f"{100 * over_cpu:+.1f} % |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
