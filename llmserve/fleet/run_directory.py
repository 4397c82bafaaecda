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
from pathlib import Path
from typing import Final

from loguru import logger

from llmserve.errors import ConfigurationError
from llmserve.fleet.held_file import HeldFile

METRICS: Final = "metrics"
LIMITS: Final = "limits"
SOCKETS: Final = "workers"
LOCK: Final = "supervisor.lock"


class RunDirectory:
    """One process's hold on it: a lock by which others, cleaners among them, see that it is in
    use (systemd-tmpfiles leaves a locked directory alone). Owned by one thread.

    Nothing is made or held before `keep`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._directory = HeldFile()
        self._lock = HeldFile()
        self._is_owned = False
        self._user: int | None = None

    def keep(self) -> None:
        """Make what is missing, and hold it.

        Raises:
            OSError: it cannot be made, or another user made it meanwhile.
            ConfigurationError: another server runs there since it vanished.
        """
        was_kept = self._user is not None
        made = []
        if not self._directory.is_at(self.path):
            made += _make(self.path, parents=True)
            self._hold()
        with contextlib.suppress(OSError):  # not every file system can lock a directory
            self._directory.lock(fcntl.LOCK_SH)
        for name in (METRICS, LIMITS, SOCKETS):
            made += _make(self.path / name)
        if was_kept and made:
            logger.warning(
                "{} had vanished and is made anew; what dead workers had counted and what keys "
                "had used of their limits may be lost",
                made[0],
            )
        if self._is_owned and not self._lock.is_at(self.path / LOCK):
            self.own()

    def own(self) -> None:
        """Be the one server that runs here.

        Raises:
            OSError: there is no room for a lock.
            ConfigurationError: another one does.
        """
        self._lock.open(self.path / LOCK, os.O_RDWR | os.O_CREAT)
        if not self._lock.lock(fcntl.LOCK_EX):
            self._lock.close()
            raise ConfigurationError(
                f"another llmserve runs in {self.path}; give this one a run_dir of its own"
            )
        self._is_owned = True

    def remove_leftovers(self) -> None:
        """Begin anew, but for what keys used and what operators loaded."""
        for name in (METRICS, SOCKETS):
            shutil.rmtree(self.path / name, ignore_errors=True)
            _make(self.path / name)

    def remove(self) -> None:
        """Let go of it, and leave nothing behind."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of it; doing it twice is harmless."""
        self._lock.close()
        self._directory.close()

    def _hold(self) -> None:
        self._directory.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        if self._user is None:
            self._user = self._directory.user
        elif self._directory.user != self._user:  # others know its name, and may write beside it
            self._directory.close()
            raise PermissionError(f"{self.path} has become another user's")


def _make(path: Path, *, parents: bool = False) -> list[Path]:
    """Make a directory for this user alone; what was made, if anything."""
    try:
        path.mkdir(mode=0o700, parents=parents)
    except FileExistsError:
        return []
    return [path]
