"""Workers that leave, and pauses of the whole machine, over fake workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from manual_clock import ManualClock
from workers.house import House, settle, watched

from llmserve.fleet.board import State
from llmserve.workers import supervisor as module

pytestmark = pytest.mark.usefixtures("impatient")


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
