"""How many processors and how much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from llmserve.machine.cgroups import memory_left, quota_of_processors


def processors(root: Path = Path("/")) -> int:
    """How many processors this process can keep busy, by its affinity and its quota.

    A quota of 2.5 counts as 2: a step's threads wait for each other, so all would wait for the
    one that is throttled, and the event loop needs some time, too.
    """
    quota = quota_of_processors(root)
    return affinity() if quota is None else max(1, min(affinity(), int(quota)))


def affinity() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of the host's memory that this process may still use; `None` if that is unknown."""
    known = (_available(root / "proc/meminfo"), memory_left(root))
    return min((free for free in known if free is not None), default=None)


def _available(meminfo: Path) -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text("utf-8").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
