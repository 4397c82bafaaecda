"""Rolling restarts, over fake workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from workers.house import House, settle, watched

from llmserve.errors import ConfigurationError
from llmserve.fleet.board import State
from llmserve.settings import Settings

pytestmark = pytest.mark.usefixtures("impatient")


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
