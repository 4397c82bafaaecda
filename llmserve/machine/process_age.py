"""How long this process has been running."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_age(root: Path = Path("/")) -> float:
    """Seconds since this process was started, the interpreter's start-up included; 0 where the
    system does not say."""
    try:
        stat = (root / "proc/self/stat").read_text(errors="replace")
        # The second field is the program's name, which may contain blanks and parentheses.
        started_at = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_at)
    except (OSError, AttributeError):  # not Linux
        return 0.0
