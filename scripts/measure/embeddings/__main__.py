"""`scripts/bench-embeddings`: texts per second of llmserve, of FastAPI around sentence-transformers
and of infinity-emb, each of which has the same model and the same texts; in one run, in turn."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from llmserve.bench.embedding_report import EmbeddingReport
from llmserve.bench.embeddings import LONGEST, SHORTEST, EmbeddingWorkload
from llmserve.bench.load import Amount, Load
from llmserve.bench.target import Target
from measure.embeddings.subjects import (
    DEMO,
    PROCESSES,
    for_all,
    infinity,
    llmserve,
    make_minilm,
    plain,
    versions,
)
from measure.gateway.processor_seconds import processor_seconds
from measure.speed.servers import NotStarted, Running, Server, running

CLIENTS: Final = 32
ROUNDS: Final = 3
SECONDS: Final = 10.0
BAR: Final = 1.5
"""How many times as many texts as a plain server, one after another, ours must embed."""

ELSEWHERE: Final = "text-embeddings-inference: no package on PyPI has its Python backend"


@dataclass(slots=True)
class Measured:
    """A server and its rounds."""

    name: str
    rounds: list[EmbeddingReport] = field(default_factory=list)
    processor_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Texts per second, median of the rounds."""
        return statistics.median(report.inputs_per_second for report in self.rounds)

    @property
    def cost(self) -> float:
        """Seconds of a core for each text: what neighbours on the machine hardly change."""
        return self.processor_seconds / max(1, sum(report.inputs for report in self.rounds))

    def row(self, base: Measured) -> str:
        """Beside the server that has 1."""
        shares = ", ".join(
            f"{mine.inputs_per_second / other.inputs_per_second:.2f}"
            for mine, other in zip(self.rounds, base.rounds, strict=True)
        )
        times = [report.latency for report in self.rounds if report.latency is not None]
        p50, p99 = (statistics.median(getattr(t, name) for t in times) for name in ("p50", "p99"))
        return (
            f"| {self.name} | {self.rate:,.1f} | {self.rate / base.rate:.2f} | {shares} | "
            f"{1000 * p50:,.0f} | {1000 * p99:,.0f} | {1000 * self.cost:,.1f} |"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if ours is below the bar."""
    parser = argparse.ArgumentParser(prog="bench-embeddings", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test, claims nothing")
    parser.add_argument(
        "--infinity", type=Path, help="python of an environment that has infinity-emb[server,torch]"
    )
    options = parser.parse_args(argv)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(PROCESSES), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    own = versions(Path(sys.executable), "torch", "transformers", "sentence-transformers")
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} before; {own}.")
    if options.infinity is not None:
        theirs = versions(options.infinity, "infinity-emb", "torch", "transformers")
        print(f"infinity's environment: {theirs}.")
    print(f"Not measured: {ELSEWHERE}.")
    has_passed = True
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        made = make_minilm(Path(scratch) / "made", tiny=options.quick)
        for name, source in (("minilm-l6, random weights", made), ("demo-embedding", DEMO)):
            folder = for_all(source, Path(scratch) / source.name.replace("made", "minilm"))
            servers = [
                llmserve(folder),
                plain(folder, in_threads=False),
                plain(folder, in_threads=True),
            ]
            if options.infinity is not None:
                servers.append(infinity(folder, options.infinity))
            rows = asyncio.run(_compared(servers, folder.name, options.quick))
            print(
                f"\n{name}: {CLIENTS} clients, {SHORTEST} to {LONGEST} tokens, texts per second, "
                "milliseconds (medians of the rounds)\n"
            )
            print("| server | texts/s | times plain | of each round | p50 | p99 | core ms a text |")
            print("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
            ours, base, *_ = rows
            for row in rows:
                print(row.row(base))
            has_passed &= ours.rate >= BAR * base.rate
    print(f"\nload {os.getloadavg()[0]:.1f} after")
    if not has_passed and not options.quick:
        print(f"below {BAR} times the plain server", file=sys.stderr)
        return 1
    return 0


async def _compared(servers: Sequence[Server], model: str, quick: bool) -> list[Measured]:
    """All of them started, and loaded in turn. One that does not come up is told and left out,
    unless it is ours or the plain one."""
    with contextlib.ExitStack() as stack:
        started: list[tuple[Measured, Running]] = []
        for number, server in enumerate(servers):
            try:
                started.append((Measured(server.name), stack.enter_context(running(server))))
            except NotStarted as error:
                if number < 2:
                    raise
                print(f"{server.name} did not run: {error}", file=sys.stderr)
        texts = await _calibrated(started[0][1].url, EmbeddingWorkload(model))
        rounds, seconds = (1, 1.0) if quick else (ROUNDS, SECONDS)
        for _, where in started:
            await _load(where.url, texts, Amount(requests=CLIENTS, concurrency=CLIENTS))
        for number in range(rounds):
            seeded = EmbeddingWorkload(
                model, words_per_token=texts.words_per_token, seed=number + 1
            )
            for measured, where in started:
                amount = Amount(seconds=seconds, concurrency=CLIENTS)
                begun = processor_seconds(where.pid)
                measured.rounds.append(await _load(where.url, seeded, amount))
                measured.processor_seconds += processor_seconds(where.pid) - begun
    return [measured for measured, _ in started]


async def _calibrated(url: str, texts: EmbeddingWorkload) -> EmbeddingWorkload:
    report = await _load(url, texts.of_one_length(), Amount(requests=1))
    assert report.tokens is not None, "llmserve tells tokens"
    return texts.calibrated(report.tokens)


async def _load(url: str, texts: EmbeddingWorkload, amount: Amount) -> EmbeddingReport:
    """One run.

    Raises:
        SystemExit: an answer failed, and the rate would mean nothing.
    """
    report = EmbeddingReport.of(await Load(Target.parse(url), texts, amount).run())
    if report.errors:
        raise SystemExit(f"answers failed: {report.errors}")
    return report


if __name__ == "__main__":
    sys.exit(main())
