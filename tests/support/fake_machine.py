"""A file system as Linux shows a process its control groups in, below a folder of the test's."""

from __future__ import annotations

from pathlib import Path

GIB = 2**30
V1_UNLIMITED = 2**63 - 4096


class FakeMachine:
    """`root` stands for `/`. Eight GiB of the host are free."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", f"MemTotal: 99 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
        # Every machine has mounts of other kinds, one of them without a source.
        self.write("proc/self/mountinfo", "22 1 8:1 / / rw shared:1 - ext4 /dev/root rw\n"
                   "23 22 0:20 / /odd\\040place rw -  tmpfs  rw\n")  # fmt: skip
        self.write("proc/self/cgroup", "")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def is_in(self, *lines: str) -> None:
        """The process's groups, as /proc/self/cgroup has them."""
        self.write("proc/self/cgroup", "".join(f"{line}\n" for line in lines))

    def mount(self, kind: str, mount_point: str, options: str = "rw", top: str = "/") -> None:
        """A hierarchy, of which the group `top` is what can be seen."""
        file = self.root / "proc/self/mountinfo"
        line = f"31 22 0:28 {top} {mount_point} rw,nosuid shared:9 - {kind} cgroup {options}\n"
        file.write_text(file.read_text() + line)

    def group2(
        self, path: str, *, cpus: str = "max 100000", most: str = "max", high: str = "max",
        used: int = 0, cached: int = 0,
    ) -> None:  # fmt: skip
        """A group of version 2."""
        for name, text in {
            "cpu.max": cpus,
            "memory.max": most,
            "memory.high": high,
            "memory.current": str(used),
            "memory.stat": f"anon 7\ninactive_file {cached}\nactive_file 9",
        }.items():
            self.write(f"sys/fs/cgroup{path}/{name}", text + "\n")

    def cpu1(self, path: str, quota: int, period: int = 100_000) -> None:
        """A group of version 1's cpu controller."""
        self.write(f"sys/fs/cgroup/cpu,cpuacct{path}/cpu.cfs_quota_us", f"{quota}\n")
        self.write(f"sys/fs/cgroup/cpu,cpuacct{path}/cpu.cfs_period_us", f"{period}\n")

    def memory1(
        self, path: str, most: int = V1_UNLIMITED, used: int = 0, cached: int = 0,
        above: int = V1_UNLIMITED,
    ) -> None:  # fmt: skip
        """A group of version 1's memory controller; `above` is the least of those around it."""
        stat = f"cache 7\nhierarchical_memory_limit {above}\ntotal_inactive_file {cached}\n"
        for name, text in {
            "memory.limit_in_bytes": f"{most}\n",
            "memory.usage_in_bytes": f"{used}\n",
            "memory.stat": stat,
        }.items():
            self.write(f"sys/fs/cgroup/memory{path}/{name}", text)

    def mount_v1(self, top: str = "/") -> None:
        """Version 1's controllers, where distributions have them."""
        self.mount("cgroup", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct", top)
        self.mount("cgroup", "/sys/fs/cgroup/memory", "rw,memory", top)
