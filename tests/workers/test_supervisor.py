"""The supervisor over fake workers: dead, hung and mute ones; starts that fail."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from workers.house import House, settle, watched

from llmserve.fleet.board import State
from llmserve.workers import supervisor as module

pytestmark = pytest.mark.usefixtures("impatient")


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


@pytest.mark.parametrize("last", [State.READY, State.BROKEN])
def test_the_server_is_up_once_when_every_worker_has_its_models(
    tmp_path: Path, last: State
) -> None:
    house = House(tmp_path)
    told: list[bool] = []

    def script() -> None:
        house.until(lambda: len(house.workers) == 2)
        house.turn()
        house.workers[0].be(State.READY)
        house.workers[1].be(State.LOADING)
        house.turn()
        assert told == []
        house.workers[1].be(last)
        house.until(lambda: told != [])
        house.workers[1].be(State.LOADING)
        house.turn()
        house.workers[1].be(State.READY)
        house.turn()

    watched(house, script, told.append)
    assert told == [last is State.READY]


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


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path, errors: list[str]) -> None:
    house = House(tmp_path, workers=1)
    house.launch_error = OSError(11, "Resource temporarily unavailable")

    def script() -> None:
        house.until(lambda: len(errors) == 2)
        assert "Resource temporarily unavailable" in errors[0]
        house.launch_error = None
        house.until(lambda: len(house.workers) == 1)

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
