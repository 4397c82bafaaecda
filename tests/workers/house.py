"""A supervisor over fake workers that a test steps by hand. (Not a test.)"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from manual_clock import ManualClock

from llmserve.clock import AwakeClock
from llmserve.fleet.board import BEAT, PID, STATE, Board, State
from llmserve.observability.metrics import Metrics
from llmserve.settings import Settings
from llmserve.workers import supervisor as module
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


def watched(
    house: House,
    script: Callable[[], None],
    on_up: Callable[[bool], None] = lambda is_well: None,
) -> int:
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
        code = house.supervisor.run(on_up)
    finally:
        thread.join(30)
        for sig, handler in previous.items():
            signal.signal(sig, handler)
    if failures:
        raise failures[0]
    return code


def settle(house: House, seconds: float) -> None:
    """Every worker comes up and serves for so long."""
    house.until(lambda: len(house.workers) == 2)
    for worker in house.workers:
        worker.be(State.READY)
    house.live(seconds)
