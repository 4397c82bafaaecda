"""Replaces the workers one after the other, without a gap where there is memory for one more."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loguru import logger

from llmserve.fleet.board import State
from llmserve.settings import Settings
from llmserve.workers.crew import Crew
from llmserve.workers.process import WorkerProcess
from llmserve.workers.worker_slot import WorkerSlot


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How rolling restarts are done.

    Attributes:
        may_overlap: whether, at this moment, there is room for one more worker besides the others;
            then the new one is started before the old one leaves.
        read_settings: reads the settings again.
    """

    may_overlap: Callable[[], bool]
    read_settings: Callable[[], Settings]


class RollingRestart:
    """One restart of all workers with these settings. Owned by the supervisor's thread."""

    def __init__(self, crew: Crew, settings: Settings, may_overlap: Callable[[], bool]) -> None:
        self._crew = crew
        self._settings = settings
        self._may_overlap = may_overlap
        self._steps = self._run()

    def go_on(self) -> bool:
        """Do what can be done without waiting; whether the restart has ended."""
        try:
            return next(self._steps, self) is self
        except OSError as error:
            logger.error("the rolling restart ends and the old workers stay: {}", error)
            return True

    def _run(self) -> Iterator[None]:
        """Yields whenever it has to wait."""
        for slot in self._crew.slots:
            while slot.process is None:
                yield
            old = slot.process
            if self._may_overlap():
                successor = self._crew.spawn(self._settings)
                self._crew.others.append(successor)
                while not self._crew.is_ready(successor) or self._is_bad(successor, old):
                    if successor.poll() is not None or self._is_bad(successor, old):
                        logger.error("the new worker {} did not come up: the rolling restart ends "
                                     "and the old workers stay", successor.pid)  # fmt: skip
                        successor.terminate(signal.SIGTERM, self._crew.leave_by(0.0))
                        return
                    yield
                self._crew.others.remove(successor)
                self._crew.others.append(old)
                slot.process = successor
            self._dismiss(old)
            yield from self._until_replaced(slot, old)
        logger.info("the rolling restart is done")

    def _until_replaced(self, slot: WorkerSlot, old: WorkerProcess) -> Iterator[None]:
        while old.poll() is None or slot.process is None or slot.process is old:
            yield
        while slot.process is None or not self._crew.is_ready(slot.process):
            yield

    def _dismiss(self, process: WorkerProcess) -> None:
        vitals = self._crew.vitals(process)
        if vitals is None or vitals.state is State.STARTING:
            process.terminate(signal.SIGTERM, self._crew.leave_by(0.0))
        else:
            process.retire(self._crew.leave_by(self._settings.request_timeout_seconds))

    def _is_bad(self, successor: WorkerProcess, old: WorkerProcess) -> bool:
        """Whether the successor cannot do what the worker it would replace can."""
        new, previous = self._crew.vitals(successor), self._crew.vitals(old)
        is_broken = new is not None and new.state is State.BROKEN
        was_well = previous is not None and previous.state is not State.BROKEN
        return successor.is_aborted or (is_broken and was_well)
