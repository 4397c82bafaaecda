"""Programs that tests start: llmserve's command line, and what runs beside a test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

COMMAND_SECONDS = 100.0


def environment(**settings: object) -> dict[str, str]:
    """This process's, with these settings of llmserve and no others."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LLMSERVE_", "PROMETHEUS_"))}
    return clean | {f"LLMSERVE_{name.upper()}": str(value) for name, value in settings.items()}


def llmserve(
    *arguments: object, cwd: Path | None = None, stdin: str | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    """The command line, as an operator uses it, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "llmserve", *map(str, arguments)],
        cwd=cwd,
        env=environment(**settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


@contextlib.contextmanager
def started(
    command: Sequence[object],
    log: Path,
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    stop_seconds: float = 20.0,
    popen: Callable[..., Any] = subprocess.Popen,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs beside the test and prints to a file; stopped at the end."""
    with log.open("wb") as sink:
        process = popen(
            [str(word) for word in command],
            cwd=cwd,
            env=env,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
