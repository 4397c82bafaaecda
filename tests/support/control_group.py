"""A real control group of Linux, where this process may make one: root, outside of a container."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserve.machine.cgroups import groups


@contextlib.contextmanager
def limited(*, processors: float, memory_bytes: int) -> Iterator[None]:
    """Processes that this thread starts meanwhile have so much; skips where that cannot be had."""
    period = 100_000
    bounds = {
        "cpu": {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": int(processors * period)},
        "memory": {"memory.limit_in_bytes": memory_bytes},
    }
    with contextlib.ExitStack() as stack:
        for controller, files in bounds.items():
            stack.enter_context(_group(controller, files))
        yield


@contextlib.contextmanager
def _group(controller: str, files: dict[str, int]) -> Iterator[None]:
    # Only version 1 moves single threads, and lets a group have both processes and children.
    mine = next((g.folder for g in groups(Path("/"), controller) if g.version == 1), None)
    if mine is None or not os.access(mine, os.W_OK):
        pytest.skip(f"no control group of version 1 for {controller} can be made here")
    group = mine / f"llmserve-test-{os.getpid()}"
    try:
        group.mkdir()
        for name, value in files.items():
            (group / name).write_text(str(value))
        thread = str(threading.get_native_id())
        (group / "tasks").write_text(thread)
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield
    finally:
        (mine / "tasks").write_text(thread)
        group.rmdir()
