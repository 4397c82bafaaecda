"""The board: what one worker writes another reads, and who should take a connection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmserve.fleet.board import STALE_SECONDS, Board, Preference, State


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(tmp_path: Path, clock: Clock) -> Board:
    return Board(tmp_path / "board", 4, clock)


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


def test_nobody_waits_for_one_whose_heart_stopped(board: Board, clock: Clock) -> None:
    join(board, 1, State.READY, 0)
    clock.now += STALE_SECONDS + 0.1
    join(board, 0, State.READY, 5)
    assert board.is_better_elsewhere(0, 5) is Preference.HERE


def test_one_that_loads_leaves_everything_to_those_that_can_serve(board: Board) -> None:
    join(board, 0, State.LOADING, 0)
    join(board, 1, State.LOADING, 1)
    assert board.is_better_elsewhere(0, 0) is Preference.HERE
    assert board.is_better_elsewhere(1, 1) is Preference.RATHER_ELSEWHERE
    join(board, 1, State.READY, 90)
    assert board.is_better_elsewhere(0, 0) is Preference.ELSEWHERE
