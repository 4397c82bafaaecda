"""One step of first contact: a process of its own with a time limit, whose output is its log.

Lines that begin with `=> ` are its findings.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

FINDING: Final = "=> "
SCRIPTS: Final = Path(__file__).resolve().parents[3]


class Verdict(StrEnum):
    """How a step ended."""

    OK = "ok"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED OUT"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Step:
    """Attributes:
    arguments: of the Python interpreter.
    limit_seconds: after which the process and its children are killed.
    is_alone: it measures time, and nothing else may run meanwhile.
    """

    name: str
    arguments: tuple[str, ...]
    limit_seconds: float
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step."""

    step: Step
    verdict: Verdict
    seconds: float = 0.0
    findings: tuple[str, ...] = ()

    @classmethod
    def not_run(cls, step: Step, why: str) -> Outcome:
        """There was no time, or no device."""
        return cls(step, Verdict.NOT_RUN, findings=(why,))


def run(step: Step, folder: Path, seconds_left: float) -> Outcome:
    """Run it for as long as it may; its log is `folder/name.log`."""
    limit = min(step.limit_seconds, seconds_left)
    if limit <= 0:
        return Outcome.not_run(step, "no time was left")
    log = folder / f"{step.name}.log"
    begun = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *step.arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=SCRIPTS.parent,
            env=_environment(),
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill_group(process)
    verdict = {0: Verdict.OK, None: Verdict.TIMED_OUT}.get(code, Verdict.FAILED)
    lines = log.read_text("utf-8", errors="replace").splitlines()
    findings = [line.removeprefix(FINDING) for line in lines if line.startswith(FINDING)]
    if verdict is not Verdict.OK and not (lines and lines[-1].startswith(FINDING)):
        findings.append(next((line for line in reversed(lines) if line.strip()), "no output"))
    return Outcome(step, verdict, time.monotonic() - begun, tuple(findings))


def _environment() -> dict[str, str]:
    paths = [str(SCRIPTS.parent), str(SCRIPTS), str(SCRIPTS.parent / "tests" / "support")]
    if "PYTHONPATH" in os.environ:
        paths.append(os.environ["PYTHONPATH"])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
