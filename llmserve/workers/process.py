"""One worker process, from its supervisor's point of view."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from loguru import logger

from llmserve.clock import awake_clock
from llmserve.workers.signals import RETIRE_SIGNAL

STACKS_SECONDS: Final = 2.0
"""How long a hung worker gets to write its stacks before it is killed."""


class WorkerProcess:
    """A process that is started on construction and has ended when `poll` returns its exit code.

    It runs in its own session: a terminal's Ctrl-C reaches only the supervisor, which passes it on.

    Attributes:
        leave_by: when it must have ended, once it was asked to leave.
        why: what was wrong with it, if the supervisor knows.
        seen_at: when it last had a row on the board; `None` until it comes up.
    """

    def __init__(
        self,
        listener: int,
        lifeline: int,
        environment: Mapping[str, str],
        board: int,
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self.leave_by: float | None = None
        self.why: str | None = None
        self.seen_at: float | None = None
        self._clock = clock
        self._started_at = clock()
        self._aborted_at: float | None = None
        inherited = (listener, lifeline, board)
        self._popen = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            [sys.executable, "-m", "llmserve.workers.worker", *map(str, inherited)],
            pass_fds=inherited,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def age_seconds(self) -> float:
        """How long ago it was started."""
        return self._clock() - self._started_at

    def poll(self) -> int | None:
        """The exit code, negative for a signal; `None` while it runs."""
        return self._popen.poll()

    @property
    def is_leaving(self) -> bool:
        """Whether it was asked to leave."""
        return self.leave_by is not None

    def retire(self, leave_by: float) -> None:
        """Ask it to hand over to others and leave by then."""
        self.leave_by = leave_by
        self._signal(RETIRE_SIGNAL)

    def terminate(self, sig: int, leave_by: float) -> None:
        """Ask it to drain and leave by then."""
        self.leave_by = leave_by
        self._signal(sig)

    def abort(self, why: str) -> None:
        """Kill it, after a moment in which it can write its stacks; call it until it has ended."""
        now = self._clock()
        if self._aborted_at is None:
            logger.error("worker {} {}: killing it; its stacks follow", self.pid, why)
            self._aborted_at = now
            self.why = self.why or "hung"
            self._signal(signal.SIGABRT)
        elif now - self._aborted_at > STACKS_SECONDS:
            self._signal(signal.SIGKILL)

    @property
    def is_aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._aborted_at is not None

    def _signal(self, sig: int) -> None:
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)
