"""Workers that generate stored responses, and whether they still live."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from pathlib import Path

from llmserve.fleet.held_file import HeldFile


class Owner:
    """This worker. Its name is that of a file in `folder`, which is locked while it lives."""

    def __init__(self, folder: Path) -> None:
        """Raises: OSError: the file cannot be made or locked."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self.name = uuid.uuid4().hex
        self._folder = folder
        self._file = HeldFile()
        self._file.open(folder / self.name, os.O_RDWR | os.O_CREAT)
        self._file.lock(fcntl.LOCK_EX)

    def is_alive(self, name: str) -> bool:
        """Whether the worker of this name still runs; the file of one that does not is removed."""
        if name == self.name:
            return True
        file = HeldFile()
        try:
            file.open(self._folder / name, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if not file.lock(fcntl.LOCK_SH):
                return True
            (self._folder / name).unlink(missing_ok=True)
            return False
        finally:
            file.close()

    def close(self) -> None:
        """It lives no more."""
        with contextlib.suppress(OSError):
            (self._folder / self.name).unlink()
        self._file.close()
