"""The supervisor: as many workers as there should be, whatever happens to them.

Loads no model and answers no request; it holds the listening socket, which every worker shares.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from loguru import logger

from llmserve.clock import AwakeClock, awake_clock
from llmserve.errors import ConfigurationError
from llmserve.fleet.board import Board, State
from llmserve.fleet.upkeep import LOOK_SECONDS
from llmserve.observability.metrics import Metrics
from llmserve.settings import Settings, to_environment
from llmserve.workers.process import WorkerProcess
from llmserve.workers.signals import STARTUP_FAILURE

TICK_SECONDS: Final = 0.1
FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0
MAX_DOUBLINGS: Final = 16
SETTLED_SECONDS: Final = 60.0
"""A worker that lived so long did not die of its own start: the back-off begins anew."""
LEAVE_MARGIN_SECONDS: Final = 30.0
"""Beyond the drain deadline: farewell, shutdown, and the worker's own last resort."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(slots=True, eq=False)
class Place:
    """One of the workers that there should be; empty while it is being replaced."""

    process: WorkerProcess | None = None
    failures: int = 0
    start_at: float = 0.0


class Supervisor:
    """Owned by the main thread of the parent process.

    `may_overlap` tells whether, at this moment, there is room for one more worker beside the
    others; then a rolling restart starts the new one before the old one leaves.
    `read_settings` reads the settings again for a rolling restart. `upkeep` looks after the run
    directory, and raises nothing.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        board: Board,
        metrics: Metrics,
        *,
        may_overlap: Callable[[], bool],
        read_settings: Callable[[], Settings],
        launch: Callable[[int, int, Mapping[str, str]], WorkerProcess],
        upkeep: Callable[[], None] = lambda: None,
        clock: AwakeClock = awake_clock,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._board = board
        self._metrics = metrics
        self._may_overlap = may_overlap
        self._read_settings = read_settings
        self._launch = launch
        self._upkeep = upkeep
        self._kept_at = -math.inf
        self._clock = clock
        self._places = [Place() for _ in range(settings.workers)]
        self._others: list[WorkerProcess] = []  # on their way in or out
        self._rolling: Iterator[None] | None = None
        self._has_served = False
        self._exit_code: int | None = None
        self._signals: list[int] = []
        self._lifeline, self._held_end = os.pipe()

    def run(self) -> int:
        """Keep the workers alive until a signal says otherwise; returns the exit code."""
        with self._taking_signals() as wake, self._clock.ticking():
            while self._exit_code is None or self._processes():
                self._fill_places()
                select.select([wake], [], [], TICK_SECONDS)
                self._clock.tick()
                self._obey(wake)
                for process in self._processes():
                    self._watch(process)
                self._reap()
                self._go_on_rolling()
                self._keep_up()
        return self._exit_code

    def _processes(self) -> list[WorkerProcess]:
        return [p.process for p in self._places if p.process is not None] + self._others

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
            os.close(self._held_end)

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
            return  # only a second Ctrl-C means that somebody is impatient
        leave_by = self._leave_by(self._settings.drain_timeout_seconds)
        for process in self._processes():
            process.terminate(sig, leave_by)

    def _fill_places(self) -> None:
        if self._exit_code is not None:
            return
        for place in self._places:
            if place.process is None and self._clock() >= place.start_at:
                try:
                    place.process = self._spawn()
                except OSError as error:  # no memory, no process ids, no descriptors
                    place.failures += 1
                    logger.error("cannot start a worker ({}): the next try is in {:.1f} s",
                                 error, self._put_off(place))  # fmt: skip

    def _spawn(self) -> WorkerProcess:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMSERVE_")}
        return self._launch(
            self._listener.fileno(),
            self._lifeline,
            environment | to_environment(self._settings),
        )

    def _watch(self, process: WorkerProcess) -> None:
        """Replace what is dead without knowing it."""
        now = self._clock()
        vitals = self._board.of(process.pid)
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

    def _watch_without_row(self, process: WorkerProcess) -> None:
        """It has not come up yet, or it has cleared its row and is about to end."""
        if process.seen_at is None:
            age = process.age_seconds
            if age > self._settings.worker_start_seconds and not process.is_leaving:
                process.abort(f"did not come up within {age:.0f} s")
        elif self._clock() - process.seen_at > LEAVE_MARGIN_SECONDS and not process.is_leaving:
            process.abort("did not leave in time")  # somebody else told it to

    def _reap(self) -> None:
        for process in [p for p in self._others if p.poll() is not None]:
            self._others.remove(process)
            self._forget(process)
        for place in self._places:
            process_here = place.process
            if process_here is not None and process_here.poll() is not None:
                place.process = None
                self._forget(process_here)
                if self._exit_code is None:
                    self._plan_replacement(place, process_here)

    def _forget(self, process: WorkerProcess) -> None:
        row = self._board.of(process.pid)
        if row is not None:
            self._board.clear(row.number)

    def _plan_replacement(self, place: Place, process: WorkerProcess) -> None:
        code = process.poll()
        if process.why is None and process.is_leaving:
            place.start_at = 0.0  # it was asked to
            return
        if code == STARTUP_FAILURE and not self._has_served:
            logger.error("worker {} could not start: giving up", process.pid)
            self._stop(signal.SIGTERM, exit_code=STARTUP_FAILURE)
            return
        place.failures = 1 if process.age_seconds > SETTLED_SECONDS else place.failures + 1
        self._metrics.worker_restarts.labels(process.why or "died").inc()
        logger.error("worker {} {} ({}): a new one starts in {:.1f} s", process.pid,
                     process.why or "died", _cause(code), self._put_off(place))  # fmt: skip

    def _put_off(self, place: Place) -> float:
        """Start its next worker later, the more often it failed; returns in how many seconds."""
        doublings = min(place.failures - 1, MAX_DOUBLINGS)
        delay = min(FIRST_DELAY_SECONDS * float(2**doublings), LONGEST_DELAY_SECONDS)
        place.start_at = self._clock() + delay
        return delay

    def _begin_rolling_restart(self) -> None:
        if self._exit_code is not None:
            return
        if self._rolling is not None:
            logger.warning("SIGHUP: a rolling restart is under way; send it again afterwards")
            return
        try:
            self._settings = self._read_settings()
        except (ConfigurationError, OSError) as error:
            logger.error("SIGHUP: nothing is restarted, the settings are wrong: {}", error)
            return
        logger.info("SIGHUP: rolling restart, worker by worker ({})", len(self._places))
        self._rolling = self._roll()

    def _go_on_rolling(self) -> None:
        try:
            if self._rolling is not None and next(self._rolling, self) is self:
                self._rolling = None
        except OSError as error:
            logger.error("the rolling restart ends and the old workers stay: {}", error)
            self._rolling = None

    def _roll(self) -> Iterator[None]:
        """One worker after the other; yields whenever it has to wait."""
        for place in self._places:
            while place.process is None:
                yield
            old = place.process
            if self._may_overlap():
                successor = self._spawn()
                self._others.append(successor)
                while not self._is_ready(successor) or self._is_bad(successor, instead_of=old):
                    if successor.poll() is not None or self._is_bad(successor, instead_of=old):
                        logger.error("the new worker {} did not come up: the rolling restart ends "
                                     "and the old workers stay", successor.pid)  # fmt: skip
                        successor.terminate(signal.SIGTERM, self._leave_by(0.0))
                        return
                    yield
                self._others.remove(successor)
                self._others.append(old)
                place.process = successor
            self._dismiss(old)
            while old.poll() is None or place.process is None or place.process is old:
                yield
            while place.process is None or not self._is_ready(place.process):
                yield
        logger.info("rolling restart is done")

    def _dismiss(self, process: WorkerProcess) -> None:
        vitals = self._board.of(process.pid)
        if vitals is None or vitals.state is State.STARTING:
            process.terminate(signal.SIGTERM, self._leave_by(0.0))
        else:
            process.retire(self._leave_by(self._settings.request_timeout_seconds))

    def _is_bad(self, process: WorkerProcess, instead_of: WorkerProcess) -> bool:
        """Whether it cannot do what the one it would replace can."""
        new, old = self._board.of(process.pid), self._board.of(instead_of.pid)
        is_broken = new is not None and new.state is State.BROKEN
        was_well = old is not None and old.state is not State.BROKEN
        return process.is_aborted or (is_broken and was_well)

    def _is_ready(self, process: WorkerProcess) -> bool:
        vitals = self._board.of(process.pid)
        return vitals is not None and vitals.state in (State.READY, State.BROKEN)

    def _keep_up(self) -> None:
        if self._clock() - self._kept_at >= LOOK_SECONDS:
            self._kept_at = self._clock()
            self._upkeep()

    def _leave_by(self, seconds: float) -> float:
        return self._clock() + seconds + LEAVE_MARGIN_SECONDS


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
