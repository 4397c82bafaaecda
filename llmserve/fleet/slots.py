"""Numbered slots, one per worker. The kernel frees a slot when its worker dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self


class Slot:
    """A claimed number. Held until `release`, or until the process is gone."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self._descriptor = descriptor

    @classmethod
    def claim(cls, directory: Path, count: int) -> Self:
        """The lowest of `count` numbers that nobody holds.

        Raises:
            RuntimeError: all are taken; somebody starts more workers than there are slots.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            descriptor = os.open(directory / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return cls(number, descriptor)
        raise RuntimeError(f"all {count} worker slots in {directory} are taken")

    def release(self) -> None:
        """Let the number go; doing it twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
