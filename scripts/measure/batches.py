"""Tokens of interactive streams without and with a batch beside them, as clients see them.

    PYTHONPATH=scripts .venv/bin/python -m measure.batches [--model FOLDER]

A server of its own with one worker; rounds with and without a batch alternate, as others may use
the machine, and the gaps of all rounds of a kind are taken together.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from make_model import make_model

from llmserve.bench.load import Amount, Load, first_model
from llmserve.bench.target import Target
from llmserve.bench.workload import Workload
from measure.speed.intrusion import calibrated
from measure.speed.servers import llmserve, running

PROMPT_TOKENS: Final = 64
MAX_RUNNING: Final = 32
CACHE_BYTES: Final = 1 << 30
TOKEN_IDS: Final = 4000
LINES: Final = 5000
"""More than a round takes."""
LINE_TOKENS: Final = 128


@dataclass(slots=True)
class Seen:
    """Seconds between tokens of the streams, and lines that were answered meanwhile."""

    gaps: list[float] = field(default_factory=list)
    lines: int = 0
    seconds: float = 0.0

    @property
    def p99(self) -> float:
        """Of the gaps."""
        return sorted(self.gaps)[int(0.99 * len(self.gaps))]


class Batch:
    """A batch that runs within the context, from its first answer on."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)
        self._path = ""

    def __enter__(self) -> Batch:
        lines = (
            json.dumps(
                {
                    "custom_id": str(number),
                    "method": "POST",
                    "url": "/v1/completions",
                    "body": {
                        "prompt": f"Number {number} " * (PROMPT_TOKENS // 3),
                        "max_tokens": LINE_TOKENS,
                        "ignore_eos": True,
                    },
                }
            )
            for number in range(LINES)
        )
        form = {"file": ("lines.jsonl", "\n".join(lines).encode())}
        file = self._asked("/v1/files", data={"purpose": "batch"}, files=form)
        batch = self._asked(
            "/v1/batches",
            json={
                "input_file_id": file["id"],
                "endpoint": "/v1/completions",
                "completion_window": "24h",
            },
        )
        self._path = f"/v1/batches/{batch['id']}"
        while not self.lines():
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._asked(self._path + "/cancel")

    def lines(self) -> int:
        """Answered so far."""
        counts = self._client.get(self._path).raise_for_status().json()["request_counts"]
        return int(counts["completed"])

    def _asked(self, path: str, **arguments: object) -> dict[str, str]:
        answer = self._client.post(path, **arguments)  # type: ignore[arg-type]  # httpx's own
        return dict(answer.raise_for_status().json())


async def interactive(load: Load, into: Seen) -> None:
    """The streams of one round."""
    collected = await load.run()
    into.gaps += itertools.chain.from_iterable(answer.gaps for answer in collected.answers)
    into.seconds += collected.ended_at - collected.began_at


async def measure(url: str, streams: int, tokens: int, rounds: int) -> tuple[Seen, Seen]:
    """Without and with a batch."""
    target = Target.parse(url)
    wanted = Workload(await first_model(target), PROMPT_TOKENS, tokens)
    workload = await calibrated(target, wanted)
    without, beside = Seen(), Seen()
    for number in range(rounds + 1):
        # The first round of each is for what has to be learned.
        into = (without, beside) if number else (Seen(), Seen())
        amount = Amount(requests=streams, concurrency=streams)
        await interactive(Load(target, workload, amount), into[0])
        with Batch(url) as batch:
            before = batch.lines()
            await interactive(Load(target, workload, amount), into[1])
            into[1].lines += batch.lines() - before
    return without, beside


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and print a table."""
    parser = argparse.ArgumentParser(prog="measure.batches", description=__doc__)
    parser.add_argument("--preset", default="smollm2-135m", help="a random model of this shape")
    parser.add_argument("--model", type=Path, help="a model's folder, instead")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--tokens", type=int, default=200, help="of each stream (200)")
    parser.add_argument("--rounds", type=int, default=4, help="of each kind (4)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="batches-") as scratch:
        folder = arguments.model or Path(scratch) / "model"
        if arguments.model is None:
            make_model(arguments.preset, folder)
        os.environ["LLMSERVE_JOBS_DIR"] = str(Path(scratch) / "jobs")
        with running(llmserve(folder, MAX_RUNNING, CACHE_BYTES, TOKEN_IDS)) as server:
            print("| streams | ITL p50 | with | p99 | with | ratio | lines/s beside |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for streams in arguments.streams:
                seen = asyncio.run(measure(server.url, streams, arguments.tokens, arguments.rounds))
                print(_row(streams, *seen), flush=True)


def _row(streams: int, without: Seen, beside: Seen) -> str:
    medians = [statistics.median(seen.gaps) for seen in (without, beside)]
    figures = [f"{1e3 * seconds:.1f} ms" for seconds in (*medians, without.p99, beside.p99)]
    rate = beside.lines / beside.seconds
    return f"| {streams} | {' | '.join(figures)} | {beside.p99 / without.p99:.2f} | {rate:.2f} |"


if __name__ == "__main__":
    main()
