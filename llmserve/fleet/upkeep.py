"""Restores a process's part of the run directory when something in it vanishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from llmserve.errors import ConfigurationError
from llmserve.fleet.control import ControlServer
from llmserve.fleet.run_directory import RunDirectory
from llmserve.trouble import Trouble

LOOK_SECONDS: Final = 1.0


class Upkeep:
    """Keeps the directory itself, and then runs the chores of the rooms that have files there.

    A worker calls `run`; the supervisor calls `look` now and then. If a chore raises an `OSError`,
    it is logged, and all are tried again the next time.
    """

    def __init__(self, directory: RunDirectory, *chores: Callable[[], None]) -> None:
        self._directory = directory
        self._chores = (directory.keep, *chores)
        self._trouble = Trouble(
            f"the run directory {directory.path} cannot be kept",
            "the workers go on serving; free disk space, or restart with another `run_dir`",
        )

    def look(self) -> None:
        """Do everything once; blocks on files."""
        try:
            for chore in self._chores:
                chore()
        except (OSError, ConfigurationError) as error:
            self._trouble.begins(error)
        else:
            self._trouble.is_over()

    async def run(self, control: ControlServer) -> None:
        """Look after the directory and the control socket until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)
            await control.keep()

    def close(self) -> None:
        """Release the directory."""
        self._directory.close()
