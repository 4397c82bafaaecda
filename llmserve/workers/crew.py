"""All worker processes of a supervisor, and what the board says about them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from llmserve.fleet.board import Board, State, Vitals
from llmserve.settings import Settings, to_environment
from llmserve.workers.process import WorkerProcess
from llmserve.workers.worker_slot import WorkerSlot

LEAVE_MARGIN_SECONDS: Final = 30.0
"""Time beyond the drain deadline for the last events, shutdown, and the worker's own fallbacks."""

Launch = Callable[[int, Mapping[str, str]], WorkerProcess]
"""Starts a process with this lifeline and environment."""


class Crew:
    """One process per slot, and `others`, which are on their way in or out.

    Owned by the supervisor's thread. Every process inherits the lifeline, one end of a pipe; the
    other end is held here, so that they notice when the supervisor dies.
    """

    def __init__(
        self, num_slots: int, board: Board, launch: Launch, clock: Callable[[], float]
    ) -> None:
        self.slots = [WorkerSlot() for _ in range(num_slots)]
        self.others: list[WorkerProcess] = []
        self._board = board
        self._launch = launch
        self._clock = clock
        self._lifeline, self._held_end = os.pipe()

    def processes(self) -> list[WorkerProcess]:
        """All processes that have not been reaped."""
        return [slot.process for slot in self.slots if slot.process is not None] + self.others

    def spawn(self, settings: Settings) -> WorkerProcess:
        """Start a process with these settings.

        Raises:
            OSError: the system has no room for another process.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMSERVE_")}
        return self._launch(self._lifeline, environment | to_environment(settings))

    def vitals(self, process: WorkerProcess) -> Vitals | None:
        """The process's row on the board; `None` before it comes up and after it left."""
        return self._board.of(process.pid)

    def is_ready(self, process: WorkerProcess) -> bool:
        """Whether the process has loaded its models, or failed to."""
        vitals = self.vitals(process)
        return vitals is not None and vitals.state in (State.READY, State.BROKEN)

    def forget(self, process: WorkerProcess) -> None:
        """Clear the row of a dead process."""
        row = self.vitals(process)
        if row is not None:
            self._board.clear(row.number)

    def leave_by(self, seconds: float) -> float:
        """When a process must have ended that may drain for so long."""
        return self._clock() + seconds + LEAVE_MARGIN_SECONDS

    def close(self) -> None:
        """Release the lifeline."""
        os.close(self._held_end)
