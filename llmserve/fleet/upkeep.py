"""A process looks after its part of the run directory, so that what vanishes comes back."""

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
    """Keeps the directory itself, and then does what each room has to do there, its chores.

    A worker `run`s it; the supervisor calls `look` now and then. Chores may raise an `OSError`:
    it is told, and they are tried again.
    """

    def __init__(self, directory: RunDirectory, *chores: Callable[[], None]) -> None:
        self._directory = directory
        self._chores = (directory.keep, *chores)
        self._trouble = Trouble(
            f"the run directory {directory.path} cannot be kept",
            "the workers serve on; make room there, or restart with another `run_dir`",
        )

    def look(self) -> None:
        """Once; blocks on files."""
        try:
            for chore in self._chores:
                chore()
        except (OSError, ConfigurationError) as error:
            self._trouble.begins(error)
        else:
            self._trouble.is_over()

    async def run(self, control: ControlServer) -> None:
        """Until cancelled, and the control socket with it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)
            await control.keep()

    def close(self) -> None:
        """Let go of the directory."""
        self._directory.close()
