"""`scripts/bench-hybrids`: engines alone, miniatures of random weights, one run."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from make_model import make_model

from measure.hybrids.checkouts import NoSuchCommit, measure_checkouts
from measure.hybrids.engines import BothEngines, measure_both
from measure.speed.limits import Workload

STREAMS = 16
PRESETS = ("tiny-qwen3-next", "tiny-mamba2")
PLAIN = "tiny-llama"
BEFORE = "76c747a"
"""The last commit without recurrent states."""
LEAST_GAIN = 3.0
LEAST_SHARE = 0.98


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="bench-hybrids", description=__doc__)
    parser.add_argument("--before", default=BEFORE, help="the older commit (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a smoke test, claims nothing")
    arguments = parser.parse_args(argv)
    rounds = 1 if arguments.quick else arguments.rounds
    work = Workload(STREAMS, 32, 16 if arguments.quick else 64)
    plain_work = Workload(STREAMS, 32, 16 if arguments.quick else 1024)
    is_good = True
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scratch = Path(name)
        folders = {preset: scratch / preset for preset in (*PRESETS, PLAIN)}
        for preset, folder in folders.items():
            make_model(preset, folder)
        print(f"\nTokens per second, {work}, medians of {rounds} rounds in turn:\n")
        print("| model | batching | threads | ratio |\n| --- | ---: | ---: | ---: |", flush=True)
        for preset in PRESETS:
            found = asyncio.run(measure_both(folders[preset], work, rounds))
            print(_row(preset, found), flush=True)
            is_good &= found.batching is not None and _ratio(found) >= LEAST_GAIN
        try:
            rates = measure_checkouts(folders[PLAIN], arguments.before, plain_work, rounds, scratch)
        except NoSuchCommit as reason:
            print(f"\n{PLAIN} was not compared: {reason}")
            is_good = False
        else:
            print("\n".join(_comparison(arguments.before, plain_work, *rates)))
            is_good &= _share(*rates) >= LEAST_SHARE
    return 0 if is_good or arguments.quick else 1


def _row(preset: str, found: BothEngines) -> str:
    threaded = statistics.median(found.threaded)
    if found.batching is None:
        return f"| {preset} | refused: {found.why} | {threaded:,.0f} | |"
    return (
        f"| {preset} | {statistics.median(found.batching):,.0f} | {threaded:,.0f} | "
        f"{_ratio(found):.2f} |"
    )


def _ratio(found: BothEngines) -> float:
    return statistics.median(found.batching or [0.0]) / statistics.median(found.threaded)


def _comparison(
    commit: str, work: Workload, now: Sequence[float], before: Sequence[float]
) -> Iterator[str]:
    yield f"\n{PLAIN}, {work}, this checkout against {commit}, rounds in turn:\n"
    yield "| | tokens per second | each round |"
    yield "| --- | ---: | --- |"
    for name, rates in (("now", now), (commit, before)):
        each = ", ".join(f"{rate:,.0f}" for rate in rates)
        yield f"| {name} | {statistics.median(rates):,.0f} | {each} |"
    yield f"\nRatio: {_share(now, before):.3f} (median of the rounds' own ratios)"


def _share(now: Sequence[float], before: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(now, before, strict=True))


if __name__ == "__main__":
    sys.exit(main())
