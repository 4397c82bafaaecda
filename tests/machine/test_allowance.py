"""What this process may use: the machine's, and no more than its quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_machine import GIB, FakeMachine

from llmserve.machine.allowance import free_memory, processors


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    machine = FakeMachine(tmp_path)
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.is_in("0::/")
    return machine


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 6), ("900000 100000", 6), ("250000 100000", 2), ("20000 100000", 1)],
)
def test_processors_are_what_affinity_and_quota_leave(
    machine: FakeMachine, quota: str, expected: int
) -> None:
    machine.group2("", cpus=quota)
    assert processors(machine.root) == expected


def test_memory_is_the_lesser_of_what_the_host_and_the_group_have(machine: FakeMachine) -> None:
    assert free_memory(machine.root) == 8 * GIB
    machine.group2("", most=str(64 * GIB))
    assert free_memory(machine.root) == 8 * GIB
    machine.group2("", most=str(3 * GIB), used=GIB)
    assert free_memory(machine.root) == 2 * GIB


def test_memory_that_nobody_can_tell(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "nowhere") is None
    FakeMachine(tmp_path).write("proc/meminfo", "nonsense\n")
    assert free_memory(tmp_path) is None


def test_this_very_machine() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)
    assert free_memory() is None or free_memory() > 0  # type: ignore[operator]
