"""One request inside an encoder: its progress, and who waits for its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from llmserve.domain import EncodingAnswer
from llmserve.engines.encoding_task import EncodingTask
from llmserve.errors import LLMServeError

EncodingOutcome = EncodingAnswer | LLMServeError


@dataclass(slots=True, eq=False)
class EncodingJob:
    """A task on its way through an encoder.

    The worker thread writes the clock readings; the event loop reads them and calls `cancel`.
    `on_end` is called on the event loop with the answer, or with why there is none: once at most,
    and not if the job was cancelled before. `on_done` is called there once, after it, when the
    encoder has let go of the job, whatever happened.
    """

    task: EncodingTask
    on_end: Callable[[EncodingOutcome], None]
    on_done: Callable[[], None]
    started_at: float | None = None
    last_step_at: float | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the worker to compute no more of its inputs than those it is at."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the answer is not wanted any more."""
        return self._cancelled.is_set()
