"""For how long a process has been there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from llmserve.machine.process_age import process_age


def test_it_counts_from_before_the_interpreter_ran() -> None:
    begun = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-c",
         "from llmserve.machine.process_age import process_age; print(process_age())"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert 0.0 <= float(told) <= time.monotonic() - begun + 0.02, "the kernel counts hundredths"


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert process_age(tmp_path) == 0.0
