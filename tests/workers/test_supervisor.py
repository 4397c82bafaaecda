"""The supervisor over fake workers: dead, hung, mute; rolling restarts; stopping."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from manual_clock import ManualClock

from llmserve.clock import AwakeClock
from llmserve.errors import ConfigurationError
from llmserve.fleet.board import BEAT, PID, STATE, Board, State
from llmserve.observability.metrics import Metrics
from llmserve.settings import Settings
from llmserve.workers import supervisor as module
from llmserve.workers import worker_slot
from llmserve.workers.rolling_restart import RestartPolicy
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
        self.seen_at: float | None = None
        self.started_at = house.clock()
        self.is_aborted = False
        self.code: int | None = None
        self.told: list[str] = []
        house.next_number = (house.next_number + 1) % house.board.num_rows
        house.workers.append(self)

    def be(self, state: State, beat: float | None = None) -> None:
        board = self.house.board
        board._write(self.number, BEAT, self.house.clock.machine() if beat is None else beat)
        board._write(self.number, STATE, state)
        board._write(self.number, PID, self.pid)

    def clear_row(self) -> None:
        self.house.board.clear(self.number)

    def die(self, code: int) -> None:
        self.code = code

    @property
    def age_seconds(self) -> float:
        return self.house.clock() - self.started_at

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


class CountingClock(AwakeClock):
    """Counts the supervisor's turns."""

    turns = 0

    def tick(self) -> float:
        self.turns += 1
        return super().tick()


class House:
    """A supervisor that a test steps by hand, in the test's own thread."""

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        machine: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        self.clock = CountingClock(machine)
        self.settings = Settings(workers=workers, **settings)
        self.board = Board(folder / "board", 2 * workers)
        self.metrics = Metrics()
        self.workers: list[FakeWorker] = []
        self.next_number = 0
        self.is_obeyed = True
        self.may_overlap = True
        self.read_settings: Callable[[], Settings] = lambda: self.settings
        self.launch_error: OSError | None = None
        self.upkeeps = 0
        self.supervisor = Supervisor(
            self.settings,
            self.board,
            self.metrics,
            launch=lambda lifeline, env: self._launch(env),  # type: ignore[arg-type,return-value]
            restarts=RestartPolicy(
                may_overlap=lambda: self.may_overlap, read_settings=lambda: self.read_settings()
            ),
            upkeep=self._keep_up,
            clock=self.clock,
        )

    def _keep_up(self) -> None:
        self.upkeeps += 1

    def _launch(self, environment: Mapping[str, str]) -> FakeWorker:
        if self.launch_error is not None:
            raise self.launch_error
        return FakeWorker(self, environment)

    def restarts(self, reason: str) -> float:
        value = self.metrics.worker_restarts.labels(reason)._value.get()
        return float(value)

    def until(self, holds: Callable[[], bool]) -> None:
        """The supervisor works until something is so."""
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def turn(self, times: int = 3) -> None:
        """The supervisor looks at everything so often."""
        until = self.clock.turns + times
        self.until(lambda: self.clock.turns >= until)

    def live(self, seconds: float) -> None:
        """Time goes by; whoever has a row beats."""
        machine = self.clock.machine
        assert isinstance(machine, ManualClock)
        until = machine.now + seconds
        while machine.now < until:
            machine.now += 0.9
            for vitals in self.board.workers():
                self.board._write(vitals.number, BEAT, machine.now)
            self.turn(1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.005)
    monkeypatch.setattr(worker_slot, "FIRST_DELAY_SECONDS", 0.01)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What is logged as an error."""
    log: list[str] = []
    sink = logger.add(log.append, format="{message}", level="ERROR")
    yield log
    logger.remove(sink)


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
        assert house.supervisor._crew.slots[0].failures == 4

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
        house.workers[0].started_at -= 6.0
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


LIFE = 10_000.0
"""Longer than every limit on a start."""


@pytest.fixture
def old(tmp_path: Path) -> House:
    """A house whose clock is the test's, and whose workers do as they please."""
    house = House(tmp_path, machine=ManualClock(), worker_start_seconds=5.0)
    house.is_obeyed = False
    return house


def settle(house: House, seconds: float) -> None:
    """Every worker comes up and serves for so long."""
    house.until(lambda: len(house.workers) == 2)
    for worker in house.workers:
        worker.be(State.READY)
    house.live(seconds)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_leaves_is_not_one_that_never_came(
    old: House, errors: list[str], sig: signal.Signals
) -> None:
    def script() -> None:
        settle(old, 60.0)
        os.kill(os.getpid(), sig)
        old.until(lambda: all(worker.is_leaving for worker in old.workers))
        for worker in old.workers:
            worker.clear_row()
        old.live(20.0)  # threads end, the interpreter shuts down
        for worker in old.workers:
            worker.die(0)

    assert watched(old, script) == 0
    assert [worker.told for worker in old.workers] == [[sig.name]] * 2
    assert errors == []


def test_a_worker_that_never_ends_is_killed_when_its_time_to_leave_is_over(old: House) -> None:
    def script() -> None:
        settle(old, 60.0)
        os.kill(os.getpid(), signal.SIGTERM)
        old.until(lambda: all(worker.is_leaving for worker in old.workers))
        old.workers[0].clear_row()
        old.live(old.settings.drain_timeout_seconds + module.LEAVE_MARGIN_SECONDS - 5.0)
        assert [worker.told for worker in old.workers] == [["SIGTERM"]] * 2
        machine = old.clock.machine
        assert isinstance(machine, ManualClock)
        while not all(worker.is_aborted for worker in old.workers):
            machine.now += 0.1
            old.workers[1].be(State.LEAVING)
            time.sleep(0.001)

    assert watched(old, script) == 0
    assert [w.told for w in old.workers] == [["SIGTERM", "did not leave in time"]] * 2


@pytest.mark.parametrize("may_overlap", [True, False])
def test_the_old_workers_of_a_rolling_restart_leave_in_peace(
    old: House, errors: list[str], may_overlap: bool
) -> None:
    old.may_overlap = may_overlap

    def script() -> None:
        settle(old, 60.0)
        os.kill(os.getpid(), signal.SIGHUP)
        for count, leaver in enumerate(old.workers[:2], start=3):
            if may_overlap:
                old.until(lambda count=count: len(old.workers) == count)  # type: ignore[misc]
                old.workers[-1].be(State.READY)
            old.until(lambda leaver=leaver: leaver.told == ["retire"])  # type: ignore[misc]
            leaver.clear_row()
            old.live(20.0)
            leaver.die(0)
            if not may_overlap:
                old.until(lambda count=count: len(old.workers) == count)  # type: ignore[misc]
                old.workers[-1].be(State.READY)
        old.until(lambda: old.supervisor._rolling is None)
        assert [w.told for w in old.workers] == [["retire"]] * 2 + [[]] * 2

    watched(old, script)
    assert errors == []
    assert old.restarts("died") + old.restarts("hung") == 0


def test_a_worker_that_somebody_else_tells_to_leave_is_given_time_and_replaced(
    old: House,
) -> None:
    def script() -> None:
        settle(old, 60.0)
        leaver = old.workers[0]
        leaver.clear_row()
        old.live(module.LEAVE_MARGIN_SECONDS - 5.0)
        assert leaver.told == []
        leaver.die(0)
        old.until(lambda: old.restarts("died") == 1)
        stuck = old.workers[1]
        stuck.clear_row()
        old.live(module.LEAVE_MARGIN_SECONDS + 5.0)
        assert stuck.told == ["did not leave in time"]

    watched(old, script)


def test_a_start_that_failed_late_is_still_a_start_that_failed(old: House) -> None:
    def script() -> None:
        old.until(lambda: len(old.workers) == 2)
        for worker in old.workers:
            worker.be(State.STARTING)
        old.live(10.0)  # longer than a worker may take to come up
        old.workers[0].clear_row()
        old.turn()
        assert old.workers[0].told == []
        old.workers[0].die(module.STARTUP_FAILURE)
        old.until(lambda: old.workers[1].told == ["SIGTERM"])

    assert watched(old, script) == module.STARTUP_FAILURE


def test_everybody_paused_together_is_nobody_dead(old: House, errors: list[str]) -> None:
    def script() -> None:
        settle(old, 60.0)
        for _ in range(3):
            assert isinstance(old.clock.machine, ManualClock)
            old.clock.machine.now += LIFE
            old.turn()
        assert [worker.told for worker in old.workers] == [[], []]
        assert errors == []
        # One of the two does not wake: its wait begins anew and is kept.
        asleep, awake = old.workers
        for _ in range(int(old.settings.worker_timeout_seconds) + 2):
            old.clock.machine.now += 0.95
            awake.be(State.READY)
            old.turn(1)
        assert "has had no heartbeat" in asleep.told[0]
        assert awake.told == []

    watched(old, script)


def test_a_pause_is_no_time_to_come_up_nor_to_leave_in(old: House) -> None:
    def script() -> None:
        old.until(lambda: len(old.workers) == 2)
        assert isinstance(old.clock.machine, ManualClock)
        old.clock.machine.now += LIFE
        old.turn()
        assert [worker.told for worker in old.workers] == [[], []]
        settle(old, 60.0)
        os.kill(os.getpid(), signal.SIGTERM)
        old.until(lambda: all(worker.is_leaving for worker in old.workers))
        old.clock.machine.now += LIFE
        old.turn()
        assert [worker.told for worker in old.workers] == [["SIGTERM"], ["SIGTERM"]]

    watched(old, script)


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path, errors: list[str]) -> None:
    house = House(tmp_path, workers=1)
    house.launch_error = OSError(11, "Resource temporarily unavailable")

    def script() -> None:
        house.until(lambda: len(errors) == 2)
        assert "Resource temporarily unavailable" in errors[0]
        house.launch_error = None
        house.until(lambda: len(house.workers) == 1)

    assert watched(house, script) == 0


def test_a_rolling_restart_that_the_system_refuses_leaves_the_old_workers(
    tmp_path: Path, errors: list[str]
) -> None:
    house = House(tmp_path)

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        for worker in house.workers:
            worker.be(State.READY)
        house.launch_error = OSError(12, "Cannot allocate memory")
        os.kill(os.getpid(), signal.SIGHUP)
        house.until(lambda: bool(errors))
        house.launch_error = None
        house.until(lambda: house.supervisor._rolling is None)
        assert "the old workers stay" in errors[0]
        assert [worker.told for worker in house.workers] == [[], []]

    assert watched(house, script) == 0


def test_the_run_directory_is_looked_after_once_a_second(old: House) -> None:
    def script() -> None:
        settle(old, 0.0)
        old.turn(5)
        before = old.upkeeps
        old.live(9.0)
        assert before == 1
        assert 4 <= old.upkeeps - before <= 9
        for worker in old.workers:
            worker.die(0)

    watched(old, script)
