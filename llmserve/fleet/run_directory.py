"""The run directory, which the workers of a box share. Held open, and made again if it vanishes.

    metrics/          the series of each process
    limits/           what keys have used of their limits
    workers/PID.sock  a worker's control socket
    models.json       what operators loaded and unloaded
    supervisor.lock   held by the one server that runs here

Knows nothing of the contents of these.
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
from llmserve.fleet.held_file import HeldFile
from llmserve.fleet.socket_address import OPEN_FILES

METRICS: Final = "metrics"
LIMITS: Final = "limits"
SOCKETS: Final = "workers"
LOCK: Final = "supervisor.lock"


class RunDirectory:
    """One process's hold on the run directory. Owned by one thread.

    It is a lock, by which other processes see that the directory is in use (systemd-tmpfiles, for
    one, leaves a locked directory alone). Nothing is made or held before `keep`. The directory must
    belong to this user or root; anything else that takes its name is neither used nor followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._directory = HeldFile()
        self._lock = HeldFile()
        self._is_owned = False
        self._was_kept = False

    @property
    def held_path(self) -> Path:
        """A path to the directory that is held, whatever takes its name; valid until `close`.

        If another directory is held later, it leads there. While none is held, nothing can be
        created or found under it. On a system without /proc/self/fd it is the plain path.
        """
        if not OPEN_FILES.exists():
            return self.path
        if self._directory.descriptor is None:  # reserves the descriptor number
            self._directory.open(Path(os.devnull), os.O_RDONLY)
        return OPEN_FILES / str(self._directory.descriptor)

    def keep(self) -> None:
        """Create what is missing, and hold the directory.

        Raises:
            OSError: it cannot be created, or is another user's; what was held is still held.
            ConfigurationError: since it vanished, another server has started there.
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
                "{} had vanished and was made again; what dead workers had counted and what keys "
                "had used of their limits may be lost",
                made[0].resolve(),
            )
        if self._is_owned and not self._lock.is_at(self.held_path / LOCK):
            self.own()

    def own(self) -> None:
        """Become the one server that runs here.

        Raises:
            OSError: the lock file cannot be made.
            ConfigurationError: another server runs here.
        """
        self._lock.open(self.held_path / LOCK, os.O_RDWR | os.O_CREAT)
        if not self._lock.lock(fcntl.LOCK_EX):
            self._lock.close()
            raise ConfigurationError(
                f"another llmserve runs in {self.path}; give this one a run_dir of its own"
            )
        self._is_owned = True

    def remove_leftovers(self) -> None:
        """Remove an earlier run's series and sockets; keep key usage and loaded models."""
        for name in (METRICS, SOCKETS):
            shutil.rmtree(self.held_path / name, ignore_errors=True)
            _make(self.held_path / name)

    def remove(self) -> None:
        """Delete the directory if it is ours, and release it."""
        with contextlib.suppress(OSError):
            self._hold()  # a worker may have made it again since
        if self._directory.is_at(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the directory; doing it twice is harmless."""
        self._lock.close()
        self._directory.close()

    def _hold(self) -> None:
        """Hold the directory that has the name now, if it is ours."""
        found = HeldFile()
        found.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        if not _is_ours(found.user):  # its parent may be writable by others, who know its name
            found.close()
            raise PermissionError(
                f"{self.path} belongs to another user; this server uses only its own or root's"
            )
        self._directory.take_over(found)


def _make(path: Path, *, parents: bool = False) -> list[Path]:
    """Make a directory for this user alone; returns it if it did not exist.

    Raises:
        OSError: it cannot be made; what exists is not a directory, or another user's.
    """
    try:
        path.mkdir(mode=0o700, parents=parents)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(f"{path.resolve()} is not a directory") from None
        if not _is_ours(found.st_uid):
            raise PermissionError(f"{path.resolve()} belongs to another user") from None
        return []
    return [path]


def _is_ours(user: int) -> bool:
    """This user's or root's: root can do everything anyway, and creates containers' volumes."""
    return user in (os.geteuid(), 0)
