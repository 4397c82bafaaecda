"""The board: who holds a row, what one worker writes another reads, who takes a connection."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from manual_clock import ManualClock
from open_files import num_open_files

from llmserve.clock import AwakeClock
from llmserve.fleet.board import ROW_BYTES, STALE_SECONDS, Board, Preference, State, make_board

HOLD = """
import sys
from llmserve.fleet.board import Board
print(Board(int(sys.argv[1]), 4).claim().number, flush=True)
sys.stdin.read()
"""

BEAT = """
import sys
from llmserve.fleet.board import Board, State
row = Board(int(sys.argv[1]), 1).row(0)
for _ in range(200_000):
    row.beat(State.READY, 1)
"""


@pytest.fixture
def machine() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def clock(machine: ManualClock) -> AwakeClock:
    return AwakeClock(machine)


@pytest.fixture
def board(tmp_path: Path, clock: AwakeClock) -> Board:
    return Board(tmp_path / "board", 4, clock)


@pytest.fixture
def nameless() -> Iterator[int]:
    descriptor = make_board()
    yield descriptor
    os.close(descriptor)


def test_more_workers_than_rows_are_refused(nameless: int) -> None:
    workers = [Board(nameless, 2) for _ in range(3)]
    rows = [worker.claim() for worker in workers[:2]]
    assert [row.number for row in rows] == [0, 1]
    with pytest.raises(RuntimeError, match="all 2 worker slots"):
        workers[2].claim()
    rows[0].release()
    rows[0].release()
    assert workers[2].claim().number == 0


def test_the_kernel_frees_the_row_of_a_killed_process(nameless: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(nameless)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(nameless,),
    )
    board = Board(nameless, 4)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "0"
        assert board.of(process.pid) is not None
        assert board.claim().number == 1
    finally:
        process.kill()
        process.communicate()
    assert Board(nameless, 4).claim().number == 0


def test_a_file_that_has_no_room_is_refused_and_not_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = num_open_files()
    with pytest.raises(OSError, match="No space left"):
        Board(tmp_path / "board", 4)
    assert num_open_files() == before


def test_a_board_in_a_file_has_its_room_on_the_disk(tmp_path: Path) -> None:
    Board(tmp_path / "board", 64)
    assert (tmp_path / "board").stat().st_blocks * 512 >= 64 * ROW_BYTES


def test_a_pause_stops_nobodys_heart(board: Board, clock: AwakeClock, machine: ManualClock) -> None:
    with clock.ticking():
        join(board, 1, State.READY, 0)
        machine.now += 3600
        assert board.is_alive(1)
        join(board, 0, State.READY, 5)
        assert board.is_better_elsewhere(0, 5) is Preference.RATHER_ELSEWHERE
        for _ in range(5):
            clock.tick()
            machine.now += 0.9
        assert not board.is_alive(1)


def join(board: Board, number: int, state: State, connections: int) -> None:
    row = board.row(number)
    row.beat(state, running=0)
    row.count_connections(connections)


def test_a_row_is_empty_until_somebody_joins_and_after_it_is_cleared(board: Board) -> None:
    assert board.read(0) is None
    assert board.workers() == []
    row = board.row(2)
    row.beat(State.READY, running=3)
    row.count_connections(7)
    vitals = board.of(os.getpid())
    assert vitals is not None
    assert (vitals.number, vitals.state, vitals.running) == (2, State.READY, 3)
    assert (vitals.connections, row.connections, vitals.beat) == (7, 7, 100.0)
    row.clear()
    assert board.workers() == []
    assert row.connections == 0


def test_two_boards_on_one_file_are_one_board(tmp_path: Path, board: Board) -> None:
    other = Board(tmp_path / "board", 4)
    join(board, 1, State.LOADING, 5)
    assert [w.connections for w in other.workers()] == [5]
    other.close()
    assert [w.number for w in board.workers()] == [1]


def test_a_new_worker_starts_with_an_empty_row(board: Board) -> None:
    join(board, 0, State.READY, 9)
    fresh = board.row(0)
    assert fresh.connections == 0
    vitals = board.read(0)
    assert vitals is not None
    assert vitals.state is State.STARTING


def test_a_worker_alone_takes_everything(board: Board) -> None:
    join(board, 0, State.READY, 50)
    assert board.is_better_elsewhere(0, 50) is Preference.HERE


def test_the_one_with_fewer_connections_is_preferred(board: Board) -> None:
    join(board, 0, State.READY, 5)
    join(board, 1, State.READY, 4)
    assert board.is_better_elsewhere(0, 5) is Preference.RATHER_ELSEWHERE
    assert board.is_better_elsewhere(0, 4) is Preference.HERE
    assert board.is_better_elsewhere(1, 4) is Preference.HERE


@pytest.mark.parametrize("state", [State.STARTING, State.HUNG, State.LEAVING, State.LOADING])
def test_nobody_waits_for_one_that_cannot_serve(board: Board, state: State) -> None:
    join(board, 0, State.READY, 5)
    join(board, 1, state, 0)
    assert board.is_better_elsewhere(0, 5) is Preference.HERE


def test_nobody_waits_for_one_whose_heart_stopped(board: Board, machine: ManualClock) -> None:
    join(board, 1, State.READY, 0)
    machine.now += STALE_SECONDS + 0.1
    join(board, 0, State.READY, 5)
    assert board.is_better_elsewhere(0, 5) is Preference.HERE


def test_one_that_loads_leaves_everything_to_those_that_can_serve(board: Board) -> None:
    join(board, 0, State.LOADING, 0)
    join(board, 1, State.LOADING, 1)
    assert board.is_better_elsewhere(0, 0) is Preference.HERE
    assert board.is_better_elsewhere(1, 1) is Preference.RATHER_ELSEWHERE
    join(board, 1, State.READY, 90)
    assert board.is_better_elsewhere(0, 0) is Preference.ELSEWHERE


def test_no_reader_sees_half_a_heartbeat(nameless: int) -> None:
    board = Board(nameless, 1)
    writer = subprocess.Popen([sys.executable, "-c", BEAT, str(nameless)], pass_fds=[nameless])
    empty = 0
    while writer.poll() is None:
        vitals = [board.read(0) for _ in range(1000)]
        empty += sum(v is not None and v.beat == 0 for v in vitals)
    assert (writer.returncode, empty) == (0, 0)
    board.close()
