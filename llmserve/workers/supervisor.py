"""The supervisor: keeps as many workers running as there should be.

Loads no model and answers no request.
"""

from __future__ import annotations

import contextlib
import math
import select
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

from loguru import logger

from llmserve.clock import AwakeClock, awake_clock
from llmserve.errors import ConfigurationError
from llmserve.fleet.board import Board, State
from llmserve.fleet.upkeep import LOOK_SECONDS
from llmserve.observability.metrics import Metrics
from llmserve.settings import Settings
from llmserve.workers.crew import LEAVE_MARGIN_SECONDS, Crew, Launch
from llmserve.workers.process import WorkerProcess
from llmserve.workers.rolling_restart import RestartPolicy, RollingRestart
from llmserve.workers.signals import STARTUP_FAILURE
from llmserve.workers.worker_slot import WorkerSlot

TICK_SECONDS: Final = 0.1
SETTLED_SECONDS: Final = 60.0
"""A worker that ran for so long did not fail at its start: the back-off begins again."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """Owned by the main thread of the parent process.

    `launch` starts a worker. `upkeep` looks after the run directory, and raises nothing.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        metrics: Metrics,
        *,
        launch: Launch,
        restarts: RestartPolicy,
        upkeep: Callable[[], None] = lambda: None,
        clock: AwakeClock = awake_clock,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._restarts = restarts
        self._upkeep = upkeep
        self._kept_at = -math.inf
        self._clock = clock
        self._crew = Crew(settings.workers, board, launch, clock)
        self._rolling: RollingRestart | None = None
        self._has_served = False
        self._is_up = False
        self._exit_code: int | None = None
        self._signals: list[int] = []

    def run(self, on_up: Callable[[bool], None] = lambda is_well: None) -> int:
        """Keep the workers alive until a signal says otherwise; returns the exit code.

        `on_up` is called once, as soon as every worker has loaded its models, with whether all of
        them could be loaded.
        """
        with self._taking_signals() as wake, self._clock.ticking():
            while self._exit_code is None or self._crew.processes():
                self._fill_slots()
                select.select([wake], [], [], TICK_SECONDS)
                self._clock.tick()
                self._obey(wake)
                for process in self._crew.processes():
                    self._watch(process)
                if not self._is_up:
                    self._tell_up(on_up)
                self._reap()
                if self._rolling is not None and self._rolling.go_on():
                    self._rolling = None
                self._keep_up()
        return self._exit_code

    @contextlib.contextmanager
    def _taking_signals(self) -> Iterator[socket.socket]:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for sig in SIGNALS:
            signal.signal(sig, lambda sig, frame: self._signals.append(sig))
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(-1)
            wake.close()
            woken.close()
            self._crew.close()

    def _obey(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wake.recv(4096)
        signals, self._signals = self._signals, []
        for sig in signals:
            if sig in (signal.SIGTERM, signal.SIGINT):
                self._stop(sig, exit_code=0)
            elif sig == signal.SIGHUP:
                self._begin_rolling_restart()

    def _stop(self, sig: int, exit_code: int) -> None:
        if self._exit_code is None:
            logger.info("{}: the workers drain and leave", signal.Signals(sig).name)
            self._exit_code, self._rolling = exit_code, None
        elif sig != signal.SIGINT:
            return  # only a second Ctrl-C cuts the drain short
        leave_by = self._crew.leave_by(self._settings.drain_timeout_seconds)
        for process in self._crew.processes():
            process.terminate(sig, leave_by)

    def _fill_slots(self) -> None:
        if self._exit_code is not None:
            return
        for slot in self._crew.slots:
            if slot.process is None and self._clock() >= slot.start_at:
                try:
                    slot.process = self._crew.spawn(self._settings)
                except OSError as error:  # no memory, no process ids, no descriptors
                    slot.failures += 1
                    logger.error("cannot start a worker ({}): the next try is in {:.1f} s",
                                 error, slot.back_off(self._clock()))  # fmt: skip

    def _watch(self, process: WorkerProcess) -> None:
        """End a process that hangs, or does not end in time."""
        now = self._clock()
        vitals = self._crew.vitals(process)
        if vitals is not None:
            process.seen_at = now
            self._has_served = self._has_served or vitals.state is not State.STARTING
        if process.is_aborted:
            process.abort("")
        elif process.leave_by is not None and now > process.leave_by:
            process.abort("did not leave in time")
        elif vitals is None:
            self._watch_without_row(process)
        elif (silence := self._clock.since(vitals.beat)) > self._settings.worker_timeout_seconds:
            process.abort(f"has had no heartbeat for {silence:.0f} s")
        elif vitals.state is State.HUNG and not process.is_leaving:
            logger.error("worker {} has a hung engine: it drains and is replaced", process.pid)
            process.why = "hung"
            process.terminate(signal.SIGTERM, now + self._settings.drain_timeout_seconds + 5.0)

    def _tell_up(self, on_up: Callable[[bool], None]) -> None:
        states = {
            State.STARTING
            if slot.process is None or (vitals := self._crew.vitals(slot.process)) is None
            else vitals.state
            for slot in self._crew.slots
        }
        if states <= {State.READY, State.BROKEN}:
            self._is_up = True
            on_up(State.BROKEN not in states)

    def _watch_without_row(self, process: WorkerProcess) -> None:
        """For a process that has not come up yet, or has cleared its row and is about to end."""
        if process.seen_at is None:
            age = process.age_seconds
            if age > self._settings.worker_start_seconds and not process.is_leaving:
                process.abort(f"did not come up within {age:.0f} s")
        elif self._clock() - process.seen_at > LEAVE_MARGIN_SECONDS and not process.is_leaving:
            process.abort("did not leave in time")  # another process told it to leave

    def _reap(self) -> None:
        for process in [p for p in self._crew.others if p.poll() is not None]:
            self._crew.others.remove(process)
            self._crew.forget(process)
        for slot in self._crew.slots:
            ended = slot.process
            if ended is not None and ended.poll() is not None:
                slot.process = None
                self._crew.forget(ended)
                if self._exit_code is None:
                    self._plan_replacement(slot, ended)

    def _plan_replacement(self, slot: WorkerSlot, process: WorkerProcess) -> None:
        code = process.poll()
        if process.why is None and process.is_leaving:
            slot.start_at = 0.0  # it was asked to leave
            return
        if code == STARTUP_FAILURE and not self._has_served:
            logger.error("worker {} could not start: giving up", process.pid)
            self._stop(signal.SIGTERM, exit_code=STARTUP_FAILURE)
            return
        slot.failures = 1 if process.age_seconds > SETTLED_SECONDS else slot.failures + 1
        self._metrics.worker_restarts.labels(process.why or "died").inc()
        logger.error("worker {} {} ({}): a new one starts in {:.1f} s", process.pid,
                     process.why or "died", _cause(code),
                     slot.back_off(self._clock()))  # fmt: skip

    def _begin_rolling_restart(self) -> None:
        if self._exit_code is not None:
            return
        if self._rolling is not None:
            logger.warning("SIGHUP: a rolling restart is under way; send it again afterwards")
            return
        try:
            self._settings = self._restarts.read_settings()
        except (ConfigurationError, OSError) as error:
            logger.error("SIGHUP: nothing is restarted, the settings are wrong: {}", error)
            return
        logger.info("SIGHUP: rolling restart, worker by worker ({})", len(self._crew.slots))
        self._rolling = RollingRestart(self._crew, self._settings, self._restarts.may_overlap)

    def _keep_up(self) -> None:
        if self._clock() - self._kept_at >= LOOK_SECONDS:
            self._kept_at = self._clock()
            self._upkeep()


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
