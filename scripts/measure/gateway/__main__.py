"""`scripts/bench-gateway`: a front over two backs against the sum of the backs, in one run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmserve.bench.load import Amount, Load
from llmserve.bench.report import Report
from llmserve.bench.target import Target
from llmserve.bench.workload import Workload
from measure.gateway.paced_back import paced_back
from measure.gateway.processor_seconds import processor_seconds
from measure.speed.servers import SCRIPTS, Running, Server, running

DEMO: Final = Path(__file__).parents[3] / "models" / "demo"
OUTPUT_TOKENS: Final = 64
PER_BACK: Final = (8, 32)
PACED: Final = (10, 50, 100)
PACE_SECONDS: Final = 0.05
FRONTS_NAME: Final = "far"
"""Of the model."""


@dataclass(frozen=True, slots=True)
class Line:
    """One size of load: tokens per second, round by round, and what the front's processor took of
    each."""

    backs: str
    streams: int
    summed: tuple[float, ...]
    front: tuple[float, ...]
    front_seconds_per_token: tuple[float, ...]

    def __str__(self) -> str:
        summed, front = statistics.median(self.summed), statistics.median(self.front)
        rounds = ", ".join(f"{f / s:.2f}" for f, s in zip(self.front, self.summed, strict=True))
        return (
            f"| {self.backs} | {self.streams} | {summed:,.0f} | {front:,.0f} | "
            f"{front / summed:.2f} | {rounds} | "
            f"{1e6 * statistics.median(self.front_seconds_per_token):.0f} |"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="bench-gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test, claims nothing")
    quick = parser.parse_args(argv).quick
    rounds, seconds = (1, 2.0) if quick else (3, 8.0)
    print("Tokens per second, median of the rounds, taken in turn:\n")
    print(
        "| backs | streams | sum of the backs | front over them | share | of each round | "
        "front's µs per token |"
    )
    print("| --- | ---: | ---: | ---: | ---: | --- | ---: |", flush=True)  # fmt: skip
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(running(_demo())).url for _ in range(2)]
        with _front(urls, "demo") as front:
            for streams in PER_BACK[:1] if quick else PER_BACK:
                what = "the demo model, on the same cores"
                print(_measured(what, urls, "demo", front, streams, rounds, seconds), flush=True)
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(paced_back(PACE_SECONDS)) for _ in range(2)]
        with _front(urls, "paced") as front:
            for streams in PACED[:1] if quick else PACED:
                what = f"elsewhere: a token each {1e3 * PACE_SECONDS:.0f} ms"
                print(_measured(what, urls, "paced", front, streams, rounds, seconds), flush=True)
    return 0


def _measured(
    what: str,
    urls: Sequence[str],
    model: str,
    front: Running,
    streams: int,
    rounds: int,
    seconds: float,
) -> Line:
    """`streams` at each back at once; then as many together through the front."""
    summed, through, costs = [], [], []
    for number in range(rounds):
        summed.append(asyncio.run(_rate(urls, model, streams, seconds, seed=2 * number)))
        begun = processor_seconds(front.pid)
        through.append(
            asyncio.run(
                _rate([front.url], FRONTS_NAME, streams * len(urls), seconds, seed=2 * number + 1)
            )
        )
        spent = processor_seconds(front.pid) - begun
        costs.append(spent / (through[-1] * seconds))
    return Line(what, streams * len(urls), tuple(summed), tuple(through), tuple(costs))


async def _rate(urls: Sequence[str], model: str, streams: int, seconds: float, seed: int) -> float:
    """Tokens per second of all of them together.

    Raises:
        SystemExit: an answer failed, and the rate would mean nothing.
    """
    amount = Amount(seconds=seconds, concurrency=streams)
    loads = [
        Load(
            Target.parse(url, None),
            Workload(
                model=model, input_tokens=32, output_tokens=OUTPUT_TOKENS, endpoint="completions",
                ignores_eos=True, seed=100 * seed + number,
            ),
            amount,
        )
        for number, url in enumerate(urls)
    ]  # fmt: skip
    reports = [Report.of(one) for one in await asyncio.gather(*(load.run() for load in loads))]
    if errors := [report.errors for report in reports if report.errors]:
        raise SystemExit(f"answers failed: {errors}")
    return sum(report.output_tokens_per_second for report in reports)


def _demo() -> Server:
    command = [
        str(SCRIPTS / "llmserve"), "serve", str(DEMO), "--port", "PORT", "--max-waiting", "512",
        "--torch-threads", "1",
    ]  # fmt: skip
    return Server("back", command, "/health/ready", "completions")


@contextlib.contextmanager
def _front(urls: Sequence[str], model: str) -> Iterator[Running]:
    """One worker, over these backs."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch) / FRONTS_NAME
        folder.mkdir()
        listed = ", ".join(f'"{url}"' for url in urls)
        (folder / "model.toml").write_text(
            f'upstream = [{listed}]\n[remote]\nmodel = "{model}"\nmax_running = 2048\n'
        )
        command = [
            str(SCRIPTS / "llmserve"), "serve", str(folder), "--port", "PORT",
            "--max-waiting", "2048",
        ]  # fmt: skip
        with running(Server("front", command, "/health/ready", "completions")) as started:
            yield started


if __name__ == "__main__":
    sys.exit(main())
