"""For how long this process has been there."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_age(root: Path = Path("/")) -> float:
    """Seconds since this process was started, its interpreter's own start included; 0 where the
    system does not tell."""
    try:
        stat = (root / "proc/self/stat").read_text(errors="replace")
        # The second field is the program's name, which may have blanks and parentheses in it.
        started_at = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_at)
    except (OSError, AttributeError):  # not Linux
        return 0.0
