"""The board: one row per worker in shared memory, written by that worker, read by everyone.

Row, 64 bytes, little-endian, every field 8 bytes wide and aligned so that a reader sees
either the old or the new value:

    0      8       16      24            32        40          64
    | pid  | beat  | state | connections | running | (unused)  |
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from pathlib import Path
from typing import Final

ROW_BYTES: Final = 64
PID, BEAT, STATE, CONNECTIONS, RUNNING = range(0, 40, 8)
STALE_SECONDS: Final = 3.0
"""A worker that has not beaten for so long counts for nothing when work is spread."""


class State(IntEnum):
    """Where a worker is in its life."""

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
    """One row as it was read. `beat` is a reading of the machine's monotonic clock."""

    number: int
    pid: int
    beat: float
    state: State
    connections: int
    running: int


class Board:
    """All rows. `path` is a file in the run directory; made when it is not there."""

    def __init__(
        self, path: Path, num_rows: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.num_rows = num_rows
        self._clock = clock
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < num_rows * ROW_BYTES:
                os.ftruncate(descriptor, num_rows * ROW_BYTES)
            self._memory = mmap.mmap(descriptor, num_rows * ROW_BYTES)
        finally:
            os.close(descriptor)

    def row(self, number: int) -> Row:
        """A row to write; only the worker that holds the slot of this number may."""
        return Row(self, number)

    def read(self, number: int) -> Vitals | None:
        """One worker, `None` where the row is empty."""
        pid, beat, state, connections, running = struct.unpack_from(
            "<qdqqq", self._memory, number * ROW_BYTES
        )
        if pid == 0:
            return None
        return Vitals(number, pid, beat, State(state), connections, running)

    def workers(self) -> list[Vitals]:
        """Everyone who has a row."""
        rows = (self.read(number) for number in range(self.num_rows))
        return [row for row in rows if row is not None]

    def of(self, pid: int) -> Vitals | None:
        """The row of a process."""
        return next((row for row in self.workers() if row.pid == pid), None)

    def is_alive(self, number: int) -> bool:
        """Whether somebody has this row and its heart beats."""
        row = self.read(number)
        return row is not None and self._clock() - row.beat < STALE_SECONDS

    def is_better_elsewhere(self, number: int, connections: int) -> Preference:
        """Whether a new connection had better go to another worker than to this one."""
        own = self.read(number)
        is_loading = own is not None and own.state in (State.STARTING, State.LOADING)
        now = self._clock()
        peers = [
            row for row in self.workers() if row.number != number and now - row.beat < STALE_SECONDS
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
        """Unmap; the file stays."""
        self._memory.close()

    def _write(self, number: int, field: int, value: float) -> None:
        layout = "<d" if field == BEAT else "<q"
        struct.pack_into(layout, self._memory, number * ROW_BYTES + field, value)

    def _now(self) -> float:
        return self._clock()


class Row:
    """A worker's own row."""

    def __init__(self, board: Board, number: int) -> None:
        self.number = number
        self._board = board
        board.clear(number)
        board._write(number, BEAT, board._now())
        board._write(number, PID, os.getpid())

    def beat(self, state: State, running: int) -> None:
        """I am alive; and how I am."""
        self._board._write(self.number, STATE, state)
        self._board._write(self.number, RUNNING, running)
        self._board._write(self.number, BEAT, self._board._now())

    def count_connections(self, connections: int) -> None:
        """How many connections are open."""
        self._board._write(self.number, CONNECTIONS, connections)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        own = self._board.read(self.number)
        return own.connections if own is not None else 0

    def mark(self, state: State) -> None:
        """A new state, before the next beat tells it."""
        self._board._write(self.number, STATE, state)

    def clear(self) -> None:
        """I am leaving."""
        self._board.clear(self.number)
