"""Who holds open requests: a limiter in a process. It is dead when its process is."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

START_TIME: Final = 22 - 3
"""`starttime` is field 22 of /proc/PID/stat, and the fields after the name begin with 3."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, by its id and start time (ids are reused), and a limiter's number in it.

    `started` is in the kernel's clock ticks since boot, 0 where there is no /proc.
    """

    pid: int
    started: int
    number: int

    @classmethod
    def here(cls) -> Self:
        """A new holder in this process."""
        pid = os.getpid()
        return cls(pid, _started(pid) or 0, next(_numbers))

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs."""
        if self.started:
            return _started(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            return True
        return True


def _started(pid: int) -> int | None:
    """When a process started; `None` if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may itself contain spaces and parentheses.
    state, *fields = stat.rpartition(b")")[2].split()
    return None if state in b"ZXx" else int(fields[START_TIME - 1])
