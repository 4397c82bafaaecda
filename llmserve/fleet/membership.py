"""One worker's place in the fleet: its row and its control socket's address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llmserve.fleet.board import Board, State
from llmserve.fleet.run_directory import SOCKETS
from llmserve.observability.process_identity import is_alive


class Membership:
    """What a worker holds while it lives. `run_dir` is where the workers of a box meet, as the
    `RunDirectory` that is held leads there; the board is in a file there, unless whoever started
    the worker passed it on as a descriptor.

    There are twice as many rows as workers: while a worker is replaced without a gap, old
    and new live side by side.
    """

    def __init__(self, run_dir: Path, workers: int, board: int | None = None) -> None:
        self.run_dir = run_dir
        self.board = open_board(run_dir / "board" if board is None else board, workers)
        self.row = self.board.claim()

    @property
    def number(self) -> int:
        """The worker's number; the lowest that was free."""
        return self.row.number

    @property
    def socket(self) -> Path:
        """Where this worker takes commands."""
        return self._socket_of(os.getpid())

    def peers(self) -> Mapping[int, Path]:
        """The control sockets of all workers that live, this one's included, by number.

        One that has only just started has none yet; that of another may have been removed.
        """
        return {
            worker.number: self._socket_of(worker.pid)
            for worker in self.board.workers()
            if worker.state is not State.STARTING and is_alive(str(worker.pid))
        }

    def leave(self) -> None:
        """Give everything back."""
        self.row.clear()
        self.row.release()

    def _socket_of(self, pid: int) -> Path:
        return self.run_dir / SOCKETS / f"{pid}.sock"


def open_board(file: Path | int, workers: int) -> Board:
    """The board of this box."""
    return Board(file, 2 * workers)
