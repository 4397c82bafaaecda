"""Tries families in processes of their own, a few in each: one that hangs, or takes all memory,
ends with its process, and the others go on."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from causal_families.outcome import Outcome

FAMILIES_PER_PROCESS: Final = 16
"""An import costs seconds; what models leave in memory goes with the process."""
START_SECONDS: Final = 120.0
END_SECONDS: Final = 2.0


def sweep(
    families: Sequence[str],
    seconds: float,
    program: Sequence[str] = ("-m", "causal_families.worker"),
    start_seconds: float = START_SECONDS,
) -> Iterator[Outcome]:
    """Outcomes, in order, as they come. Each may take so many seconds, after a process started."""
    left = list(families)
    while left:
        group = left[:FAMILIES_PER_PROCESS]
        count = 0
        with _Process([*program, *group]) as process:
            while count < len(group):
                line = process.line(seconds if count else seconds + start_seconds)
                if line is None:
                    break
                yield Outcome.parse(line)
                count += 1
            if count < len(group):
                yield Outcome(group[count], "none", process.ending(seconds))
                count += 1
        del left[:count]


class _Process:
    """A worker, killed at the end."""

    def __init__(self, arguments: Sequence[str]) -> None:
        scripts = str(Path(__file__).parents[1])
        paths = [scripts, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        self._unread = b""

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def line(self, seconds: float) -> str | None:
        """The next one, `None` if it ended or is silent for so long."""
        pipe = self._process.stdout
        assert pipe is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                told = os.read(pipe.fileno(), 1 << 16)
                if not told:
                    return None
                self._unread += told
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def ending(self, seconds: float) -> str:
        """Why there are no more lines."""
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return f"no answer within {seconds:g} s"
        return f"its process ended with status {status}"
