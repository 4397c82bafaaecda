"""`scripts/bench-front`: the processor time of a front before a box that computes nothing."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from measure.front.load import Load, send
from measure.front.upstream import MODEL
from measure.speed import servers

SHORT = Load(streams=32, requests=1_024, tokens=2)
LONG = Load(streams=64, requests=256, tokens=256)
WARM_UP = Load(streams=32, requests=64, tokens=4)
ROUNDS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="bench-front", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test, no figures to show")
    arguments = parser.parse_args(argv)
    short, long, rounds = SHORT, LONG, ROUNDS
    if arguments.quick:
        short, long, rounds = Load(4, 8, 2), Load(4, 4, 16), 1
    with _front() as front:
        send(front.port, WARM_UP if not arguments.quick else short)
        print("| requests | tokens of each | events | s of a core | µs a request | µs a token |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for _ in range(rounds):
            spent = [front.measured(load) for load in (short, long)]
            costs = per_request_and_token(short, spent[0][1], long, spent[1][1])
            for load, (events, seconds) in zip((short, long), spent, strict=True):
                cells = [
                    f"{load.requests:,}", f"{load.tokens:,}", f"{events:,}", f"{seconds:.2f}",
                    *(f"{1e6 * cost:,.0f}" for cost in costs),
                ]  # fmt: skip
                print(f"| {' | '.join(cells)} |")
    return 0


def per_request_and_token(
    short: Load, short_seconds: float, long: Load, long_seconds: float
) -> tuple[float, float]:
    """Seconds for each request and each token, from what two loads took."""
    tokens = short.requests * short.tokens, long.requests * long.tokens
    determinant = short.requests * tokens[1] - long.requests * tokens[0]
    request = (short_seconds * tokens[1] - long_seconds * tokens[0]) / determinant
    token = (long_seconds * short.requests - short_seconds * long.requests) / determinant
    return request, token


class _Front:
    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._process = psutil.Process(pid)

    def measured(self, load: Load) -> tuple[int, float]:
        """Events that came, and the front's seconds of a core."""
        before = self._seconds()
        events = send(self.port, load)
        return events, self._seconds() - before

    def _seconds(self) -> float:
        processes = [self._process, *self._process.children(recursive=True)]
        times = [process.cpu_times() for process in processes]
        return float(sum(each.user + each.system for each in times))


@contextlib.contextmanager
def _front() -> Iterator[_Front]:
    with tempfile.TemporaryDirectory(prefix="front-") as scratch, _upstream() as port:
        folder = Path(scratch) / "models" / MODEL
        folder.mkdir(parents=True)
        manifest = f'upstream = ["http://127.0.0.1:{port}"]\n[remote]\nmax_running = 1024\n'
        (folder / "model.toml").write_text(manifest, encoding="utf-8")
        command = [
            str(servers.SCRIPTS / "llmserve"), "serve", MODEL, "--models-dir", str(folder.parent),
            "--port", "PORT", "--log-level", "WARNING",
        ]  # fmt: skip
        server = servers.Server("front", command, "/health/ready", "chat")
        with servers.running(server) as it:
            yield _Front(int(it.url.rpartition(":")[2]), it.pid)


@contextlib.contextmanager
def _upstream() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "measure.front.upstream"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    sys.exit(main())
