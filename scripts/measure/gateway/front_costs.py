"""`scripts/bench-front`: the processor time of a front before a box that computes nothing."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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

PACE_SECONDS: Final = 0.02
MODEL: Final = "paced"
ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Streams:
    """`requests` in all, `at_once`, each with so many tokens."""

    requests: int
    tokens: int
    at_once: int


SHORT: Final = Streams(1_000, 2, at_once=16)
LONG: Final = Streams(96, 256, at_once=24)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="bench-front", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test, no figures to show")
    is_quick = parser.parse_args(argv).quick
    short, long = (Streams(8, 2, 4), Streams(4, 16, 4)) if is_quick else (SHORT, LONG)
    print("Time of a core:\n")
    print(f"| {_named(short)}, s | {_named(long)}, s | a request, ms | a token, µs |")
    print("| ---: | ---: | ---: | ---: |", flush=True)
    with _front() as front:
        _spent(front, short)  # connections are made, and code is warm
        for _ in range(1 if is_quick else ROUNDS):
            first, second = _spent(front, short), _spent(front, long)
            request, token = per_request_and_token(short, first, long, second)
            cells = f"{first:.2f}", f"{second:.2f}", f"{1e3 * request:.1f}", f"{1e6 * token:.0f}"
            print(f"| {' | '.join(cells)} |", flush=True)
    return 0


def per_request_and_token(
    short: Streams, short_seconds: float, long: Streams, long_seconds: float
) -> tuple[float, float]:
    """Seconds for each request and each token, from what two loads took."""
    tokens = short.requests * short.tokens, long.requests * long.tokens
    determinant = short.requests * tokens[1] - long.requests * tokens[0]
    request = (short_seconds * tokens[1] - long_seconds * tokens[0]) / determinant
    token = (long_seconds * short.requests - short_seconds * long.requests) / determinant
    return request, token


def _named(streams: Streams) -> str:
    return f"{streams.requests:,} requests of {streams.tokens:,} tokens"


def _spent(front: Running, streams: Streams) -> float:
    """Seconds of a core.

    Raises:
        SystemExit: an answer failed, and the time would mean nothing.
    """
    before = processor_seconds(front.pid)
    load = Load(
        Target.parse(front.url, None),
        Workload(
            model=MODEL, input_tokens=32, output_tokens=streams.tokens, endpoint="completions",
            ignores_eos=True,
        ),
        Amount(requests=streams.requests, concurrency=streams.at_once),
    )  # fmt: skip
    report = Report.of(asyncio.run(load.run()))
    if report.errors:
        raise SystemExit(f"answers failed: {report.errors}")
    return processor_seconds(front.pid) - before


@contextlib.contextmanager
def _front() -> Iterator[Running]:
    """One worker, over one back."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, paced_back(PACE_SECONDS) as url:
        folder = Path(scratch) / MODEL
        folder.mkdir()
        (folder / "model.toml").write_text(f'upstream = ["{url}"]\n', encoding="utf-8")
        command = [str(SCRIPTS / "llmserve"), "serve", str(folder), "--port", "PORT"]
        with running(Server("front", command, "/health/ready", "completions")) as started:
            yield started


if __name__ == "__main__":
    sys.exit(main())
