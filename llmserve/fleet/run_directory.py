"""The run directory: where the workers of a box meet. Held, and made anew when it vanished.

    metrics/          the series of each process
    limits/           what keys used of their limits
    workers/PID.sock  where a worker takes commands
    models.json       what operators loaded and unloaded
    supervisor.lock   of the one server that runs here

Knows of these no more than that they are there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from loguru import logger

from llmserve.errors import ConfigurationError
from llmserve.fleet.address import OPEN_FILES
from llmserve.fleet.held_file import HeldFile

METRICS: Final = "metrics"
LIMITS: Final = "limits"
SOCKETS: Final = "workers"
LOCK: Final = "supervisor.lock"


class RunDirectory:
    """One process's hold on it: a lock by which others, cleaners among them, see that it is in
    use (systemd-tmpfiles leaves a locked directory alone). Owned by one thread.

    Nothing is made or held before `keep`. It must be this user's or root's, and stay so: whatever
    else takes its name is not used, nor followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._directory = HeldFile()
        self._lock = HeldFile()
        self._is_owned = False
        self._was_kept = False

    @property
    def held_path(self) -> Path:
        """The directory that is held, to work in: this path leads there whoever takes the name
        meanwhile, and to the one that is held next. Valid until `close`.

        Nothing can be made or found there while nothing is held. On a system without
        /proc/self/fd it is the name.
        """
        if not OPEN_FILES.exists():
            return self.path
        if self._directory.descriptor is None:  # keeps a number free for what is held later
            self._directory.open(Path(os.devnull), os.O_RDONLY)
        return OPEN_FILES / str(self._directory.descriptor)

    def keep(self) -> None:
        """Make what is missing, and hold it.

        Raises:
            OSError: it cannot be made, or is another user's; what was held is still held.
            ConfigurationError: another server runs there since it vanished.
        """
        was_kept = self._was_kept
        made = []
        if not self._directory.is_at(self.path):
            made += _make(self.path, parents=True)
            self._hold()
        with contextlib.suppress(OSError):  # not every file system can lock a directory
            self._directory.lock(fcntl.LOCK_SH)
        for name in (METRICS, LIMITS, SOCKETS):
            made += _make(self.held_path / name)
        self._was_kept = True
        if was_kept and made:
            logger.warning(
                "{} had vanished and is made anew; what dead workers had counted and what keys "
                "had used of their limits may be lost",
                made[0].resolve(),
            )
        if self._is_owned and not self._lock.is_at(self.held_path / LOCK):
            self.own()

    def own(self) -> None:
        """Be the one server that runs here.

        Raises:
            OSError: there is no room for a lock.
            ConfigurationError: another one does.
        """
        self._lock.open(self.held_path / LOCK, os.O_RDWR | os.O_CREAT)
        if not self._lock.lock(fcntl.LOCK_EX):
            self._lock.close()
            raise ConfigurationError(
                f"another llmserve runs in {self.path}; give this one a run_dir of its own"
            )
        self._is_owned = True

    def remove_leftovers(self) -> None:
        """Begin anew, but for what keys used and what operators loaded."""
        for name in (METRICS, SOCKETS):
            shutil.rmtree(self.held_path / name, ignore_errors=True)
            _make(self.held_path / name)

    def remove(self) -> None:
        """Let go of it, and leave nothing behind that is ours."""
        with contextlib.suppress(OSError):
            self._hold()  # a worker may have made it anew since
        if self._directory.is_at(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of it; doing it twice is harmless."""
        self._lock.close()
        self._directory.close()

    def _hold(self) -> None:
        """Hold what has the name now, if it is ours."""
        found = HeldFile()
        found.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        if not _is_ours(found.user):  # others know its name, and may write beside it
            found.close()
            raise PermissionError(
                f"{self.path} is another user's; this server uses its own and root's"
            )
        self._directory.take_over(found)


def _make(path: Path, *, parents: bool = False) -> list[Path]:
    """Make a directory for this user alone; what was made, if anything.

    Raises:
        OSError: it cannot be made; what is there is no directory, or another user's.
    """
    try:
        path.mkdir(mode=0o700, parents=parents)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(f"{path.resolve()} is no directory") from None
        if not _is_ours(found.st_uid):
            raise PermissionError(f"{path.resolve()} is another user's") from None
        return []
    return [path]


def _is_ours(user: int) -> bool:
    """Root may do everything anyway, and makes the volumes of containers."""
    return user in (os.geteuid(), 0)
