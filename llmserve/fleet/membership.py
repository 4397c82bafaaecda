"""One worker's place in the fleet: its slot, its row and its control socket's address."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from llmserve.fleet.board import Board, Row
from llmserve.fleet.slots import Slot

METRICS: Final = "metrics"
LIMITS: Final = "limits"
SOCKETS: Final = "workers"
METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Tells prometheus_client where `METRICS` is; it looks once, when it is imported."""


class Membership:
    """What a worker holds while it lives. `run_dir` is where the workers of a box meet.

    There are twice as many slots as workers: while a worker is replaced without a gap, old
    and new live side by side.
    """

    def __init__(self, run_dir: Path, workers: int) -> None:
        self.run_dir = run_dir
        self.started_at = time.time()
        for name in (METRICS, LIMITS, SOCKETS):
            (run_dir / name).mkdir(parents=True, exist_ok=True)
        num_slots = 2 * workers
        self._slot = Slot.claim(run_dir / "slots", num_slots)
        self.board = open_board(run_dir, workers)
        self.row: Row = self.board.row(self._slot.number)

    @property
    def number(self) -> int:
        """The worker's number; the lowest that was free."""
        return self._slot.number

    @property
    def socket(self) -> Path:
        """Where this worker takes commands."""
        return self.run_dir / SOCKETS / f"{os.getpid()}.sock"

    def peers(self) -> Mapping[int, Path]:
        """The control sockets of all workers that have a row, this one's included, by number."""
        found = {}
        for worker in self.board.workers():
            path = self.run_dir / SOCKETS / f"{worker.pid}.sock"
            if path.exists():
                found[worker.number] = path
        return found

    def leave(self) -> None:
        """Give everything back."""
        self.row.clear()
        self.socket.unlink(missing_ok=True)
        self._slot.release()


def open_board(run_dir: Path, workers: int) -> Board:
    """The board of this box."""
    return Board(run_dir / "board", 2 * workers)
