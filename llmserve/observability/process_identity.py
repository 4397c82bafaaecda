"""Which process a file belongs to: its PID and start time, because PIDs are reused."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
HAS_PROC: Final = (PROC / "self" / "stat").exists()
DEAD_STATES: Final = frozenset({"Z", "X"})
"""States in /proc of a process that has ended: zombie, dead."""


def identity() -> str:
    """`PID.START` of this process; cheap, and correct right after a fork."""
    return _identity(os.getpid())


def has_start_time(name: str) -> bool:
    """Whether this name is unique, as no later process can have it."""
    return "." in name


def is_alive(name: str) -> bool:
    """Whether the process with this name is running; a name may be a PID alone.

    The processes must share a PID namespace. Without /proc, a reused PID counts as alive.
    """
    pid, _, started = name.partition(".")
    if not pid.isdecimal():
        return True  # not one of our names
    if HAS_PROC:
        found = _start_time(int(pid))
        return found is not None and started in {"", found}
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@functools.lru_cache(maxsize=1)
def _identity(pid: int) -> str:
    return f"{pid}.{_start_time(pid) or time.time_ns()}"


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of the process; `None` if it is not running."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name, which may contain blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in DEAD_STATES else fields[19]
