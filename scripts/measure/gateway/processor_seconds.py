"""What a server has taken of the processors."""

from __future__ import annotations

import psutil


def processor_seconds(pid: int) -> float:
    """Of a process and those that it started."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)
