"""Quotas that Linux's control groups, versions 1 and 2, set for this process.

The quotas of all enclosing groups apply, so the effective one is the smallest on the way up to the
mount point of the hierarchy. https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

UNLIMITED: Final = 2**60
"""Version 1 writes "no limit" as the largest number of whole pages."""


@dataclass(frozen=True, slots=True)
class Group:
    """A control group: its folder, in a hierarchy of this version."""

    folder: Path
    version: int

    def processors(self) -> float | None:
        """Its quota of processor time, in processors; `None` where it sets none."""
        if self.version == 1:
            quota, period = self._text("cpu.cfs_quota_us"), self._text("cpu.cfs_period_us")
        else:
            quota, _, period = self._text("cpu.max").partition(" ")
        if not (quota.isdecimal() and period.isdecimal() and int(period)):  # `max`, `-1`, no file
            return None
        return int(quota) / int(period)

    def free_memory(self) -> int | None:
        """Bytes below its limit; `None` where it sets none."""
        stat = dict(line.partition(" ")[::2] for line in self._text("memory.stat").splitlines())
        if self.version == 1:
            limits = [self._text("memory.limit_in_bytes"), stat.get("hierarchical_memory_limit")]
            used, cached = self._text("memory.usage_in_bytes"), stat.get("total_inactive_file")
        else:
            # Above `high` processes are not killed but throttled.
            limits = [self._text("memory.max"), self._text("memory.high")]
            used, cached = self._text("memory.current"), stat.get("inactive_file")
        set_ones = [int(limit) for limit in limits if limit and limit.isdecimal()]
        limit = min(set_ones, default=UNLIMITED)
        if limit >= UNLIMITED or not used.isdecimal():
            return None
        return max(0, limit - max(0, int(used) - int(cached or 0)))

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""


def quota_of_processors(root: Path = Path("/")) -> float | None:
    """This process's quota of processor time, in processors; `None` without one."""
    quotas = (group.processors() for group in groups(root, "cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still allocate; `None` without a limit.

    Inactive page cache does not count as used: the kernel reclaims it.
    """
    left = (group.free_memory() for group in groups(root, "memory"))
    return min((free for free in left if free is not None), default=None)


def groups(root: Path, controller: str) -> Iterator[Group]:
    """This process's group and those that enclose it, for one controller."""
    paths = _paths(root / "proc/self/cgroup", controller)
    for version, mounted, mount_point in _mounts(root / "proc/self/mountinfo", controller):
        if version not in paths:
            continue
        path = PurePosixPath(paths[version])
        top = root / mount_point.lstrip("/")
        # A path outside the mounted part is the host's, seen from a container: the group is `top`.
        inside = path.is_relative_to(mounted) and ".." not in path.parts
        folder = top / path.relative_to(mounted) if inside else top
        for group in (folder, *folder.parents):
            yield Group(group, version)
            if group == top:
                break


def _paths(file: Path, controller: str) -> dict[int, str]:
    """The process's path in the hierarchy of each version that may have this controller."""
    paths = {}
    for line in _lines(file):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths[2] = path
        elif controller in controllers.split(","):
            paths[1] = path
    return paths


def _mounts(file: Path, controller: str) -> Iterator[tuple[int, str, str]]:
    """Version, topmost visible group and mount point of each hierarchy."""
    for line in _lines(file):
        left, _, right = line.partition(" - ")
        mounted, mount_point = map(_unescaped, left.split()[3:5])
        kind, options = right.partition(" ")[0], right.rpartition(" ")[2]
        if kind == "cgroup2":
            yield 2, mounted, mount_point
        elif kind == "cgroup" and controller in options.split(","):
            yield 1, mounted, mount_point


def _unescaped(text: str) -> str:
    """Blanks and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return []
