"""The supervisor over fake workers: dead, hung, mute; rolling restarts; stopping."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from llmserve.errors import ConfigurationError
from llmserve.fleet.board import BEAT, PID, STATE, Board, State
from llmserve.observability.metrics import Metrics
from llmserve.settings import Settings
from llmserve.workers import supervisor as module
from llmserve.workers.supervisor import Supervisor


class FakeWorker:
    """A worker that is whatever the test makes of it; obeys like a good one."""

    def __init__(self, house: House, environment: Mapping[str, str]) -> None:
        self.house = house
        self.environment = environment
        self.number = house.next_number
        self.pid = 1_000_000 + len(house.workers)
        self.leave_by: float | None = None
        self.why: str | None = None
        self.age_seconds = 1.0
        self.is_aborted = False
        self.code: int | None = None
        self.told: list[str] = []
        house.next_number = (house.next_number + 1) % house.board.num_rows
        house.workers.append(self)

    def be(self, state: State, beat: float | None = None) -> None:
        board = self.house.board
        board._write(self.number, BEAT, time.monotonic() if beat is None else beat)
        board._write(self.number, STATE, state)
        board._write(self.number, PID, self.pid)

    def die(self, code: int) -> None:
        self.code = code

    @property
    def is_leaving(self) -> bool:
        return self.leave_by is not None

    def poll(self) -> int | None:
        return self.code

    def retire(self, leave_by: float) -> None:
        self.leave_by = leave_by
        self.told.append("retire")

    def terminate(self, sig: int, leave_by: float) -> None:
        self.leave_by = leave_by
        self.told.append(signal.Signals(sig).name)
        if self.house.is_obeyed:
            self.die(0)

    def abort(self, why: str) -> None:
        if not self.is_aborted:
            self.told.append(why)
            self.is_aborted, self.why = True, self.why or "hung"
            self.die(-signal.SIGKILL)


class House:
    """A supervisor that a test steps by hand, in the test's own thread."""

    def __init__(self, folder: Path, workers: int = 2, **settings: Any) -> None:
        self.settings = Settings(workers=workers, **settings)
        self.board = Board(folder / "board", 2 * workers)
        self.metrics = Metrics()
        self.workers: list[FakeWorker] = []
        self.next_number = 0
        self.is_obeyed = True
        self.may_overlap = True
        self.read_settings: Callable[[], Settings] = lambda: self.settings
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.supervisor = Supervisor(
            self.settings,
            self.listener,
            self.board,
            self.metrics,
            may_overlap=lambda: self.may_overlap,
            read_settings=lambda: self.read_settings(),
            launch=lambda listener, lifeline, env: FakeWorker(self, env),  # type: ignore[arg-type,return-value]
        )

    def restarts(self, reason: str) -> float:
        value = self.metrics.worker_restarts.labels(reason)._value.get()
        return float(value)

    def until(self, holds: Callable[[], bool]) -> None:
        """The supervisor works until something is so."""
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.005)
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.01)


def watched(house: House, script: Callable[[], None]) -> int:
    """Run the supervisor in this thread (it takes signals) and the script beside it."""
    failures: list[BaseException] = []

    def act() -> None:
        try:
            script()
        except BaseException as error:
            failures.append(error)
        finally:
            house.is_obeyed = True
            for worker in house.workers:
                if worker.is_leaving and worker.code is None:
                    worker.die(0)
            os.kill(os.getpid(), signal.SIGTERM)

    previous = {sig: signal.getsignal(sig) for sig in module.SIGNALS}
    thread = threading.Thread(target=act, name="script")
    thread.start()
    try:
        code = house.supervisor.run()
    finally:
        thread.join(30)
        for sig, handler in previous.items():
            signal.signal(sig, handler)
        house.listener.close()
    if failures:
        raise failures[0]
    return code


def test_a_dead_worker_is_replaced_and_counted(tmp_path: Path) -> None:
    house = House(tmp_path)

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        for worker in house.workers:
            worker.be(State.READY)
        house.workers[0].die(-signal.SIGKILL)
        house.until(lambda: len(house.workers) == 3)
        assert house.board.of(house.workers[0].pid) is None
        assert house.restarts("died") == 1

    assert watched(house, script) == 0


def test_worker_after_worker_that_dies_is_started_ever_more_slowly(tmp_path: Path) -> None:
    house = House(tmp_path, workers=1)

    def script() -> None:
        for count in range(1, 5):
            house.until(lambda count=count: len(house.workers) == count)  # type: ignore[misc]
            house.workers[-1].be(State.LOADING)
            house.until(lambda: house.supervisor._has_served)
            house.workers[-1].die(1)
        house.until(lambda: house.restarts("died") == 4)
        place = house.supervisor._places[0]
        assert place.failures == 4

    watched(house, script)


def test_a_worker_that_cannot_start_at_all_ends_the_server(tmp_path: Path) -> None:
    house = House(tmp_path)

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        house.workers[0].die(module.STARTUP_FAILURE)
        house.until(lambda: house.workers[1].code is not None)

    assert watched(house, script) == module.STARTUP_FAILURE


def test_a_worker_whose_heart_stops_is_killed_and_replaced(tmp_path: Path) -> None:
    house = House(tmp_path, worker_timeout_seconds=5.0)

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        house.workers[1].be(State.READY)
        house.workers[0].be(State.READY, beat=time.monotonic() - 60)
        house.until(lambda: len(house.workers) == 3)
        assert "no heartbeat for 60 s" in house.workers[0].told[0]
        assert house.restarts("hung") == 1

    watched(house, script)


def test_a_worker_that_never_comes_up_is_killed(tmp_path: Path) -> None:
    house = House(tmp_path, worker_start_seconds=5.0)

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        house.workers[1].be(State.READY)
        house.workers[0].age_seconds = 6.0
        house.until(lambda: len(house.workers) == 3)
        assert "did not come up" in house.workers[0].told[0]

    watched(house, script)


def test_a_worker_with_a_hung_engine_is_asked_to_drain_and_is_killed_if_it_does_not(
    tmp_path: Path,
) -> None:
    house = House(tmp_path, drain_timeout_seconds=0.0)
    house.is_obeyed = False

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        house.workers[1].be(State.READY)
        house.workers[0].be(State.HUNG)
        house.until(lambda: house.workers[0].told == ["SIGTERM"])
        house.workers[0].leave_by = time.monotonic() - 1
        house.until(lambda: len(house.workers) == 3)
        assert house.workers[0].told == ["SIGTERM", "did not leave in time"]
        assert house.restarts("hung") == 1

    watched(house, script)


def test_a_rolling_restart_starts_the_new_worker_before_the_old_one_leaves(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        first, second = house.workers
        for worker in (first, second):
            worker.be(State.READY)
        os.kill(os.getpid(), signal.SIGHUP)
        house.until(lambda: len(house.workers) == 3)
        assert first.told == []
        house.workers[2].be(State.READY)
        house.until(lambda: first.told == ["retire"])
        assert (second.told, len(house.workers)) == ([], 3)
        first.die(0)
        house.until(lambda: len(house.workers) == 4)
        house.workers[3].be(State.READY)
        house.until(lambda: second.told == ["retire"])
        second.die(0)
        house.until(lambda: house.supervisor._rolling is None)
        assert len(house.workers) == 4
        assert house.restarts("died") == 0

    watched(house, script)


def test_without_room_for_two_the_old_worker_leaves_first(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.may_overlap = False

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        first, second = house.workers
        for worker in (first, second):
            worker.be(State.READY)
        os.kill(os.getpid(), signal.SIGHUP)
        house.until(lambda: first.told == ["retire"])
        assert len(house.workers) == 2
        first.die(0)
        house.until(lambda: len(house.workers) == 3)
        assert second.told == []
        house.workers[2].be(State.READY)
        house.until(lambda: second.told == ["retire"])

    watched(house, script)


def test_a_new_worker_that_is_broken_ends_the_rolling_restart(tmp_path: Path) -> None:
    house = House(tmp_path)

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        for worker in house.workers:
            worker.be(State.READY)
        os.kill(os.getpid(), signal.SIGHUP)
        house.until(lambda: len(house.workers) == 3)
        house.workers[2].be(State.BROKEN)
        house.until(lambda: house.supervisor._rolling is None)
        assert [w.told for w in house.workers[:2]] == [[], []]
        assert house.workers[2].told == ["SIGTERM"]

    watched(house, script)


def test_wrong_settings_restart_nothing_and_right_ones_reach_the_new_workers(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)

    def wrong() -> Settings:
        raise ConfigurationError("no such knob")

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        for worker in house.workers:
            worker.be(State.READY)
        house.read_settings = wrong
        os.kill(os.getpid(), signal.SIGHUP)
        house.until(lambda: not house.supervisor._signals)
        house.read_settings = lambda: house.settings.model_copy(update={"max_waiting": 7})
        os.kill(os.getpid(), signal.SIGHUP)
        house.until(lambda: len(house.workers) == 3)
        assert house.workers[0].environment["LLMSERVE_MAX_WAITING"] == "256"
        assert house.workers[2].environment["LLMSERVE_MAX_WAITING"] == "7"

    watched(house, script)


def test_a_second_ctrl_c_is_passed_on_and_a_second_sigterm_is_not(tmp_path: Path) -> None:
    house = House(tmp_path, workers=1)
    house.is_obeyed = False

    def script() -> None:
        house.until(lambda: len(house.workers) == 1)
        house.workers[0].be(State.READY)
        os.kill(os.getpid(), signal.SIGTERM)
        house.until(lambda: house.workers[0].told == ["SIGTERM"])
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        house.until(lambda: house.workers[0].told == ["SIGTERM", "SIGINT"])

    assert watched(house, script) == 0
