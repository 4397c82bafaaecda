"""`scripts/bench-road`: the processor time of a request and of a token, of tiny models.

With `--against COMMIT`, the same of an older commit, in turns with this checkout.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from make_model import make_model

from measure.road.client import Call, post
from measure.road.worker_time import WorkerTime, worker_of, worker_time
from measure.speed.servers import SCRIPTS, Server, running

ROOT: Final = Path(__file__).parents[3]
EMBEDDING: Final = ROOT / "models" / "demo-embedding"
AT_ONCE: Final = 16
TEXT: Final = "How do I keep the server from running out of memory when many people ask at once?"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: which server it asks, how often, and how many units (requests or tokens)
    an answer has."""

    name: str
    engine: str
    call: Call
    count: int
    connections: int
    units: int = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="bench-road", description=__doc__)
    parser.add_argument("--against", metavar="COMMIT", help="also measure an older commit")
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are told")
    parser.add_argument("--only", default="", help="rows whose names contain this")
    parser.add_argument("--quick", action="store_true", help="a smoke test, no figures to show")
    options = parser.parse_args(argv)
    rounds = 1 if options.quick else options.rounds
    rows = [row for row in _rows(is_quick=options.quick) if options.only in row.name]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        model = Path(scratch) / "tiny"
        with contextlib.redirect_stdout(sys.stderr):
            make_model("tiny-llama", model)
        packages = [ROOT]
        with contextlib.ExitStack() as stack:
            if options.against:
                packages.append(stack.enter_context(_checkout(options.against, Path(scratch))))
            _tell(rows, packages, model, rounds)
    return 0


def _rows(*, is_quick: bool) -> list[Row]:
    def completion(tokens: int, *, stream: bool) -> Call:
        body = {"prompt": TEXT, "max_tokens": tokens, "ignore_eos": True, "stream": stream}
        return Call("/v1/completions", body, chunked=stream)

    messages = [{"role": "user", "content": TEXT}]
    chat = Call("/v1/chat/completions", {"messages": messages, "max_tokens": 1})
    embedding = Call("/v1/embeddings", {"input": TEXT})
    count, tokens = (4, 4) if is_quick else (600, 256)
    return [
        Row("request, batching", "batching", completion(1, stream=False), count, AT_ONCE),
        Row("request, batching, chat", "batching", chat, count, AT_ONCE),
        Row("request, threaded", "threaded", completion(1, stream=False), count, AT_ONCE),
        Row("request, embedding", "encoding", embedding, count, AT_ONCE),
        *(
            Row(f"token, {n} streams", "batching", completion(tokens, stream=True), times, n,
                tokens)
            for n, times in ((1, 4), (8, 24), (64, 128))
        ),
    ]  # fmt: skip


def _tell(rows: Sequence[Row], packages: Sequence[Path], model: Path, rounds: int) -> None:
    spent: dict[tuple[str, Path], list[WorkerTime]] = {}
    for engine in dict.fromkeys(row.engine for row in rows):
        folder = EMBEDDING if engine == "encoding" else model
        with contextlib.ExitStack() as stack:
            asked = {
                package: stack.enter_context(_serving(package, folder, engine))
                for package in packages
            }
            for row in (row for row in rows if row.engine == engine):
                for ask in asked.values():
                    ask(row)  # connections are made, and code is warm
                for turn in range(rounds):
                    for package in packages if turn % 2 else reversed(packages):
                        time = asked[package](row)
                        spent.setdefault((row.name, package), []).append(time)
    _print(rows, packages, spent)


def _print(
    rows: Sequence[Row],
    packages: Sequence[Path],
    spent: dict[tuple[str, Path], list[WorkerTime]],
) -> None:
    is_compared = len(packages) > 1
    print("Microseconds of a core in the worker, medians:\n")
    print("| a | event loop | all threads |" + (" before | before | ratio |" * is_compared))
    print("| --- | ---: | ---: |" + (" ---: | ---: | ---: |" * is_compared))
    for row in rows:
        units = row.count * row.units
        cells: list[float] = []
        for package in packages:
            times = spent[row.name, package]
            cells += [1e6 * median(one.loop for one in times) / units]
            cells += [1e6 * median(one.all for one in times) / units]
        line = f"| {row.name} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |"
        if is_compared:
            pairs = zip(*(spent[row.name, package] for package in packages), strict=True)
            line += f" {median(new.all / old.all for new, old in pairs):.2f} |"
        print(line, flush=True)


@contextlib.contextmanager
def _serving(package: Path, folder: Path, engine: str) -> Iterator[Callable[[Row], WorkerTime]]:
    """What posts a row's calls, and tells what they cost."""
    flags = [] if engine == "encoding" else ["--engine", engine]
    run: list[Any] = ["/usr/bin/env", f"PYTHONPATH={package}", SCRIPTS / "llmserve"]
    command = [str(part) for part in (*run, "serve", folder, "--port", "PORT", *flags)]
    with running(Server("llmserve", command, "/health/ready", "completions")) as started:
        worker = worker_of(started.pid)

        def ask(row: Row) -> WorkerTime:
            before = worker_time(worker)
            asyncio.run(post(started.url, row.call, row.count, row.connections))
            return worker_time(worker) - before

        yield ask


@contextlib.contextmanager
def _checkout(commit: str, scratch: Path) -> Iterator[Path]:
    folder = scratch / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(main())
