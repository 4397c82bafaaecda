"""The same model on this checkout and on an older commit, in turn."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from measure.speed.limits import Workload

HERE = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("plain.py")
SECONDS = 300
"""A program that says nothing for so long after its end was asked for is killed."""


class NoSuchCommit(Exception):
    """Git does not know it here; says what git said."""


def measure_checkouts(
    folder: Path, commit: str, work: Workload, rounds: int, scratch: Path
) -> tuple[Sequence[float], Sequence[float]]:
    """Tokens per second of each round, now and at the commit; who begins changes with the rounds.

    Raises:
        NoSuchCommit: there is no such one.
    """
    older = _extracted(commit, scratch)
    with _program(HERE, folder, work) as now, _program(older, folder, work) as before:
        found: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 1):
            turns = [(now, found[0]), (before, found[1])]
            for program, rates in turns if number % 2 else reversed(turns):
                rates.append(_asked(program, number))
        return found[0][1:], found[1][1:]


def _extracted(commit: str, scratch: Path) -> Path:
    command = ["git", "archive", "--format=tar", commit, "llmserve", "scripts"]
    archived = subprocess.run(command, cwd=HERE, capture_output=True, check=False)
    if archived.returncode:
        raise NoSuchCommit(archived.stderr.decode(errors="replace").strip())
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as tar:
        tar.extractall(scratch / "before", filter="data")
    return scratch / "before"


@contextlib.contextmanager
def _program(checkout: Path, folder: Path, work: Workload) -> Iterator[subprocess.Popen[str]]:
    lengths = (work.concurrency, work.input_tokens, work.output_tokens)
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), *map(str, lengths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, (checkout / "scripts", checkout)))},
    ) as program:
        try:
            while _line(program) != "ready":  # what making a model prints may come before
                pass
            yield program
        finally:
            assert program.stdin is not None
            program.stdin.close()
            try:
                program.wait(SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()


def _asked(program: subprocess.Popen[str], seed: int) -> float:
    assert program.stdin is not None
    print(seed, file=program.stdin, flush=True)
    return float(_line(program))


def _line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line:
        raise RuntimeError(f"{' '.join(map(str, program.args))} ended")  # type: ignore[union-attr]
    return line.strip()
