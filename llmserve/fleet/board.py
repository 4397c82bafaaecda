"""The board: one row per worker in shared memory, written by that worker, read by everyone.

A worker holds its row by a lock on the row's bytes, which the kernel releases when the worker dies,
however it dies. A row is 64 bytes, little-endian, every field 8 bytes wide and aligned, so that a
reader sees either the old or the new value:

    0      8       16      24            32        40          64
    | pid  | beat  | state | connections | running | (unused)  |
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from pathlib import Path
from typing import Final

from llmserve.clock import AwakeClock, awake_clock
from llmserve.observability.mapped_file import map_file, nameless_file

ROW_BYTES: Final = 64
PID, BEAT, STATE, CONNECTIONS, RUNNING = range(0, 40, 8)
BOARD_VARIABLE: Final = "_LLMSERVE_BOARD"
"""The variable that has the descriptor of the board that Gunicorn's workers inherit."""
FLOCK: Final = struct.Struct("hhqqi4x")
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""
STALE_SECONDS: Final = 3.0
"""A worker without a heartbeat for so long is ignored when connections are spread."""


class State(IntEnum):
    """The state of a worker."""

    STARTING = 0
    LOADING = 1
    READY = 2
    HUNG = 3
    LEAVING = 4
    BROKEN = 5


class Preference(Enum):
    """Where a new connection should go."""

    HERE = auto()
    RATHER_ELSEWHERE = auto()
    ELSEWHERE = auto()


@dataclass(frozen=True, slots=True)
class Vitals:
    """One row as it was read. `beat` is a reading of `AwakeClock.machine`."""

    number: int
    pid: int
    beat: float
    state: State
    connections: int
    running: int


def make_board() -> int:
    """The descriptor of a board in memory, to be inherited by workers: no cleaner can remove it."""
    return nameless_file("llmserve-board")


class Board:
    """All rows. `file` is a path, where a file is created if there is none, or an inherited
    descriptor from `make_board`, which is not closed here."""

    def __init__(self, file: Path | int, num_rows: int, clock: AwakeClock = awake_clock) -> None:
        self.num_rows = num_rows
        self._clock = clock
        self._descriptor = _open(file)
        try:
            self._memory = map_file(self._descriptor, num_rows * ROW_BYTES)
        except OSError:
            os.close(self._descriptor)
            raise

    def claim(self) -> Row:
        """Take the lowest free row, for this process until it releases it or ends.

        Raises:
            RuntimeError: all are taken: there are more workers than rows.
        """
        for number in range(self.num_rows):
            if self._lock(number, fcntl.F_WRLCK):
                return Row(self, number)
        raise RuntimeError(f"all {self.num_rows} worker slots are taken")

    def row(self, number: int) -> Row:
        """A row to write to; only for the worker that holds it."""
        return Row(self, number)

    def read(self, number: int) -> Vitals | None:
        """One worker; `None` if the row is empty."""
        pid, beat, state, connections, running = struct.unpack_from(
            "<qdqqq", self._memory, number * ROW_BYTES
        )
        if pid == 0:
            return None
        return Vitals(number, pid, beat, State(state), connections, running)

    def workers(self) -> list[Vitals]:
        """All workers that have a row."""
        rows = (self.read(number) for number in range(self.num_rows))
        return [row for row in rows if row is not None]

    def of(self, pid: int) -> Vitals | None:
        """The row of a process."""
        return next((row for row in self.workers() if row.pid == pid), None)

    def is_alive(self, number: int) -> bool:
        """Whether the row has a worker with a recent heartbeat."""
        row = self.read(number)
        return row is not None and self._clock.since(row.beat) < STALE_SECONDS

    def is_better_elsewhere(self, number: int, connections: int) -> Preference:
        """Whether another worker should take a new connection instead of this one."""
        own = self.read(number)
        is_loading = own is not None and own.state in (State.STARTING, State.LOADING)
        peers = [
            row
            for row in self.workers()
            if row.number != number and self._clock.since(row.beat) < STALE_SECONDS
        ]
        can_serve = [row for row in peers if row.state in (State.READY, State.BROKEN)]
        if is_loading and can_serve:
            return Preference.ELSEWHERE
        equals = [row for row in peers if row.state is State.LOADING] if is_loading else can_serve
        if any(row.connections < connections for row in equals):
            return Preference.RATHER_ELSEWHERE
        return Preference.HERE

    def clear(self, number: int) -> None:
        """Empty a row: its worker is dead."""
        start = number * ROW_BYTES
        self._memory[start : start + ROW_BYTES] = bytes(ROW_BYTES)

    def close(self) -> None:
        """Close the file, which stays, and release every row that was claimed here."""
        self._memory.close()
        os.close(self._descriptor)

    def _write(self, number: int, field: int, value: float) -> None:
        # Not `pack_into`, which clears the place first: a reader would sometimes see zero.
        packed = struct.pack("<d" if field == BEAT else "<q", value)
        start = number * ROW_BYTES + field
        self._memory[start : start + len(packed)] = packed

    def _now(self) -> float:
        return self._clock.machine()

    def _lock(self, number: int, kind: int) -> bool:
        """Take or (with `F_UNLCK`) release the lock on a row; false if another process has it."""
        start = number * ROW_BYTES
        try:
            if hasattr(fcntl, "F_OFD_SETLK"):
                lock = FLOCK.pack(kind, os.SEEK_SET, start, ROW_BYTES, 0)
                fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, lock)
            else:  # a lock per process, which is enough as each has one board
                how = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(self._descriptor, how, ROW_BYTES, start)
        except (BlockingIOError, PermissionError):
            return False
        return True


class Row:
    """A worker's own row."""

    def __init__(self, board: Board, number: int) -> None:
        self.number = number
        self._board = board
        board.clear(number)
        board._write(number, BEAT, board._now())
        board._write(number, PID, os.getpid())

    def beat(self, state: State, running: int) -> None:
        """Record a heartbeat, with the worker's state and load."""
        self._board._write(self.number, STATE, state)
        self._board._write(self.number, RUNNING, running)
        self._board._write(self.number, BEAT, self._board._now())

    def count_connections(self, connections: int) -> None:
        """Record how many connections are open."""
        self._board._write(self.number, CONNECTIONS, connections)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        own = self._board.read(self.number)
        return own.connections if own is not None else 0

    def mark(self, state: State) -> None:
        """Record a new state without waiting for the next heartbeat."""
        self._board._write(self.number, STATE, state)

    def clear(self) -> None:
        """Empty the row: this worker is leaving."""
        self._board.clear(self.number)

    def release(self) -> None:
        """Let another worker claim the row; doing it twice is harmless."""
        self._board._lock(self.number, fcntl.F_UNLCK)


def _open(file: Path | int) -> int:
    if isinstance(file, int):
        # Opened again: a lock belongs to an open file description, and an inherited one is shared.
        path = Path(f"/proc/self/fd/{file}")
        if not path.exists():
            return os.dup(file)
        file = path
    return os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
