"""Quotas of control groups: without any first, then both versions, nested and hybrid."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_machine import GIB, FakeMachine

from llmserve.machine.cgroups import memory_left, quota_of_processors


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def quotas(machine: FakeMachine) -> tuple[float | None, int | None]:
    return quota_of_processors(machine.root), memory_left(machine.root)


def test_where_there_are_no_groups_nothing_is_bounded(machine: FakeMachine, tmp_path: Path) -> None:
    assert quotas(machine) == (None, None)
    assert quotas(FakeMachine(tmp_path / "other")) == (None, None)
    assert (quota_of_processors(tmp_path / "no"), memory_left(tmp_path / "no")) == (None, None)


def test_version_2_without_bounds(machine: FakeMachine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.is_in("0::/")
    machine.group2("", used=3 * GIB)
    assert quotas(machine) == (None, None)


def test_version_2_in_a_container_of_its_own_namespace(machine: FakeMachine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup", "rw,nsdelegate,memory_recursiveprot")
    machine.is_in("0::/")
    machine.group2("", cpus="150000 100000", most=str(2 * GIB), used=GIB)
    assert quotas(machine) == (1.5, GIB)


def test_the_least_on_the_way_up_counts(machine: FakeMachine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.is_in("0::/kubepods/pod1/llmserve")
    machine.group2("", cpus="max 100000")
    machine.group2("/kubepods", cpus="600000 100000", most=str(9 * GIB), used=8 * GIB)
    machine.group2("/kubepods/pod1", cpus="25000 10000", most=str(4 * GIB), used=2 * GIB)
    machine.group2("/kubepods/pod1/llmserve", cpus="400000 100000", most=str(3 * GIB))
    assert quotas(machine) == (2.5, GIB), "2.5 of the pod; one GiB left of kubepods"


def test_memory_high_bounds_like_memory_max(machine: FakeMachine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.is_in("0::/user.slice")
    machine.group2("/user.slice", most=str(6 * GIB), high=str(5 * GIB), used=GIB)
    assert memory_left(machine.root) == 4 * GIB


def test_pages_of_files_that_nobody_used_lately_are_free(machine: FakeMachine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.is_in("0::/a")
    machine.group2("/a", most=str(4 * GIB), used=4 * GIB, cached=3 * GIB)
    assert memory_left(machine.root) == 3 * GIB
    machine.group2("/a", most=str(4 * GIB), used=5 * GIB)
    assert memory_left(machine.root) == 0, "never less than nothing"


def test_version_1(machine: FakeMachine) -> None:
    machine.mount_v1()
    machine.is_in("11:pids:/x", "5:memory:/docker/abc", "4:cpu,cpuacct:/docker/abc", "0::/")
    machine.cpu1("", -1)
    machine.cpu1("/docker", 300_000)
    machine.cpu1("/docker/abc", 75_000, 50_000)
    machine.memory1("")
    machine.memory1("/docker")
    machine.memory1("/docker/abc", 4 * GIB, used=3 * GIB, cached=2 * GIB)
    assert quotas(machine) == (1.5, 3 * GIB)


def test_version_1_in_a_container_that_sees_the_hosts_path(machine: FakeMachine) -> None:
    machine.mount_v1(top="/docker/abc")
    machine.is_in("5:memory:/docker/abc", "4:cpu,cpuacct:/docker/abc")
    machine.cpu1("", 200_000)
    machine.memory1("", 2 * GIB, used=GIB)
    assert quotas(machine) == (2.0, GIB)


def test_version_1_tells_of_a_bound_around_it_that_cannot_be_seen(machine: FakeMachine) -> None:
    machine.mount_v1(top="/pod/abc")
    machine.is_in("5:memory:/pod/abc", "4:cpu,cpuacct:/pod/abc")
    machine.memory1("", used=GIB, above=3 * GIB)
    assert quotas(machine) == (None, 2 * GIB)


@pytest.mark.parametrize("path", ["/../../elsewhere", "/host/only"])
def test_a_path_outside_of_what_is_mounted_means_the_top(machine: FakeMachine, path: str) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup", top="/" if ".." in path else "/mine")
    machine.is_in(f"0::{path}")
    machine.group2("", cpus="100000 100000", most=str(GIB))
    assert quotas(machine) == (1.0, GIB)


def test_a_folder_that_is_not_there_leaves_those_around_it(machine: FakeMachine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.is_in("0::/host/only")
    machine.group2("", cpus="100000 100000", most=str(GIB))
    assert quotas(machine) == (1.0, GIB)


def test_hybrid_has_its_controllers_in_version_1(machine: FakeMachine) -> None:
    machine.mount_v1()
    machine.mount("cgroup2", "/sys/fs/cgroup/unified")
    machine.is_in("9:memory:/a", "2:cpuacct,cpu:/a", "1:name=systemd:/a", "0::/b")
    machine.cpu1("/a", 100_000)
    machine.memory1("/a", 2 * GIB, used=GIB)
    machine.write("sys/fs/cgroup/unified/b/cgroup.procs", "1\n")
    assert quotas(machine) == (1.0, GIB)


def test_a_mount_point_with_a_blank(machine: FakeMachine) -> None:
    machine.mount("cgroup2", "/odd\\040place")
    machine.is_in("0::/")
    machine.write("odd place/cpu.max", "50000 100000\n")
    assert quota_of_processors(machine.root) == 0.5


@pytest.mark.parametrize("text", ["", "max", "max 100000", "-1 100000", "100000 0", "x y"])
def test_what_is_no_quota_bounds_nothing(machine: FakeMachine, text: str) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.is_in("0::/")
    machine.group2("", cpus=text)
    assert quota_of_processors(machine.root) is None
