"""One worker's place in the fleet: its row and its control socket's address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llmserve.fleet.board import Board, State
from llmserve.fleet.run_directory import SOCKETS
from llmserve.observability.process_identity import is_alive


class Membership:
    """What a worker holds while it runs.

    `run_dir` is the path of the `RunDirectory` that the worker holds. The board is a file in it,
    unless the process that started the worker passed the board on as a descriptor. It has twice as
    many rows as workers, as the old and the new worker run side by side during a replacement.
    """

    def __init__(self, run_dir: Path, workers: int, board: int | None = None) -> None:
        self.run_dir = run_dir
        self.board = open_board(run_dir / "board" if board is None else board, workers)
        self.row = self.board.claim()

    @property
    def number(self) -> int:
        """The worker's number: the lowest that was free."""
        return self.row.number

    @property
    def socket(self) -> Path:
        """The path of this worker's control socket."""
        return self._socket_of(os.getpid())

    def peers(self) -> Mapping[int, Path]:
        """The paths of the control sockets of all live workers, this one included, by number.

        Workers that have only just started are left out, as they have none yet. A path may not
        exist, as sockets can be removed.
        """
        return {
            worker.number: self._socket_of(worker.pid)
            for worker in self.board.workers()
            if worker.state is not State.STARTING and is_alive(str(worker.pid))
        }

    def leave(self) -> None:
        """Empty and release the row."""
        self.row.clear()
        self.row.release()

    def _socket_of(self, pid: int) -> Path:
        return self.run_dir / SOCKETS / f"{pid}.sock"


def open_board(file: Path | int, workers: int) -> Board:
    """The board for so many workers."""
    return Board(file, 2 * workers)
