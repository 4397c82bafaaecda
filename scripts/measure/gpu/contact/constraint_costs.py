"""What a required form costs a decode step on the device, of few rows and of many."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from make_model import make_model

from llmserve.engines.step_report import StepReport
from measure.constraints.steps import step_seconds
from measure.speed.loop_alone import build

ROWS: Final = (8, 64)
TOKENS: Final = 64
ROUNDS: Final = 2
CACHE_BYTES: Final = 2**30


def main(argv: list[str]) -> int:
    """`constraint_costs [PRESET]`, on the device that a server would take."""
    preset = argv[0] if argv else "qwen3-0.6b"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / preset
        make_model(preset, path)
        asyncio.run(_measure(path))
    return 0


async def _measure(path: Path) -> None:
    reports: list[StepReport] = []
    engine = await build(path, max(ROWS), CACHE_BYTES, reports.append)
    try:
        for rows in ROWS:
            steps = await step_seconds(engine, reports, rows, TOKENS, ROUNDS)
            plain = statistics.median(steps["none"])
            for name, seconds in steps.items():
                each = statistics.median(seconds)
                over = f"{each / plain - 1:+.0%}"
                print(f"=> {rows} rows, {name}: {each * 1e3:.2f} ms a step, {over}", flush=True)
    finally:
        await engine.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
