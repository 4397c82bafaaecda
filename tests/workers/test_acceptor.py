"""The acceptor: full, busier than others, loading; then accepting."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bounded import run

from llmserve.fleet.board import Board, State
from llmserve.workers.acceptor import Acceptor, Connections


@dataclass
class Worker:
    """One acceptor with protocols that only count themselves."""

    acceptor: Acceptor
    connections: Connections
    number: int
    arrivals: list[int] = field(default_factory=list)


class Counted(asyncio.Protocol):
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)


class Box:
    """A listening socket and the workers that share it, all in this process."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.board = Board(folder / "board", workers)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.workers: list[Worker] = []
        self.clients: list[socket.socket] = []

    def start(self, number: int, state: State = State.READY, max_connections: int = 100) -> Worker:
        row = self.board.row(number)
        row.beat(state, running=0)
        connections = Connections(row)
        acceptor = Acceptor(
            self.listener.dup(),
            lambda: Counted(connections),
            connections,
            self.board,
            row,
            max_connections,
        )
        self.workers.append(Worker(acceptor, connections, number))
        return self.workers[-1]

    async def connect(self, count: int = 1) -> None:
        """Each connection is accepted before the next is made."""
        for _ in range(count):
            before = self.total
            self.clients.append(socket.create_connection(self.listener.getsockname()))
            while self.total == before:
                await asyncio.sleep(0.001)

    @property
    def total(self) -> int:
        return sum(len(worker.connections) for worker in self.workers)

    @property
    def spread(self) -> list[int]:
        return [len(worker.connections) for worker in self.workers]


@contextlib.asynccontextmanager
async def box(folder: Path, workers: int = 4) -> AsyncIterator[Box]:
    made = Box(folder, workers)
    yield made
    for worker in made.workers:
        worker.acceptor.close()
        await worker.acceptor.wait_closed()
    for client in made.clients:
        client.close()
    while made.total:
        await asyncio.sleep(0.001)
    made.listener.close()


def test_every_way_to_count_connections_reaches_the_board(tmp_path: Path) -> None:
    row = Board(tmp_path / "board", 1).row(0)
    connections = Connections(row)
    for name in "abc":
        connections.add(name)
    connections.discard("a")
    connections.remove("b")  # as Uvicorn's WebSockets do
    assert row.connections == 1


def test_a_full_worker_leaves_connections_in_the_kernels_queue(tmp_path: Path) -> None:
    async def test() -> None:
        async with box(tmp_path) as b:
            b.start(0, max_connections=2)
            await b.connect(2)
            b.clients.append(socket.create_connection(b.listener.getsockname()))
            await asyncio.sleep(0.1)
            assert b.spread == [2]
            b.clients.pop(0).close()
            while b.board.read(0).connections != 2 or len(b.clients) != 2:  # type: ignore[union-attr]
                await asyncio.sleep(0.001)

    run(test)


def test_connections_that_stay_open_are_spread_evenly(tmp_path: Path) -> None:
    async def test() -> None:
        async with box(tmp_path) as b:
            for number in range(4):
                b.start(number)
            await b.connect(40)
            assert b.spread == [10, 10, 10, 10]
            assert [w.connections for w in b.board.workers()] == [10, 10, 10, 10]

    run(test)


def test_a_worker_that_is_still_loading_takes_nothing_while_another_can_serve(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with box(tmp_path) as b:
            b.start(0, State.LOADING)
            b.start(1, State.READY)
            await b.connect(10)
            assert b.spread == [0, 10]

    run(test)


def test_where_all_are_loading_somebody_answers(tmp_path: Path) -> None:
    async def test() -> None:
        async with box(tmp_path) as b:
            b.start(0, State.LOADING)
            b.start(1, State.LOADING)
            await b.connect(4)
            assert b.spread == [2, 2]

    run(test)


def test_a_less_busy_worker_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with box(tmp_path) as b:
            b.start(0)
            b.board.row(1).beat(State.READY, running=0)  # on the board, but it accepts nothing
            await b.connect(3)
            assert b.spread == [3]

    run(test)


def test_a_closed_acceptor_leaves_new_connections_to_the_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with box(tmp_path) as b:
            first = b.start(0)
            b.start(1)
            await b.connect(2)
            first.acceptor.close()
            first.acceptor.close()
            b.board.clear(0)
            await b.connect(3)
            assert b.spread == [1, 4]

    run(test)
