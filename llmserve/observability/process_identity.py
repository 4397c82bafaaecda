"""Which process a file belongs to: its PID and its birth, because PIDs come again."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
HAS_PROC: Final = (PROC / "self" / "stat").exists()
GONE: Final = frozenset({"Z", "X"})
"""States of a process that only waits for its parent to look."""


def identity() -> str:
    """`PID.BIRTH` of this process; right after a fork, too, and cheap."""
    return _identity(os.getpid())


def has_birth(name: str) -> bool:
    """Whether nobody will ever bear this name again."""
    return "." in name


def is_alive(name: str) -> bool:
    """Whether the process of this name runs; one with a PID alone is any with that PID.

    The processes must share a PID namespace. Without /proc a PID that came again counts.
    """
    pid, _, birth = name.partition(".")
    if not pid.isdecimal():
        return True  # none of ours: not for us to judge
    if HAS_PROC:
        found = _birth(int(pid))
        return found is not None and birth in {"", found}
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@functools.lru_cache(maxsize=1)
def _identity(pid: int) -> str:
    return f"{pid}.{_birth(pid) or time.time_ns()}"


def _birth(pid: int) -> str | None:
    """Clock ticks from boot to the start of the process, `None` when it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name, which may have blanks and parentheses in it.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in GONE else fields[19]
