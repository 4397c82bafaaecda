"""One request inside an engine: its progress, and who reads its events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from llmserve.domain import Usage
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import Task, TokenTask


@dataclass(slots=True, eq=False)
class Job:
    """A task on its way through an engine.

    The worker thread writes the counters; the event loop reads them and calls `cancel`.
    `cached_tokens` of the prompt came from a pinned prefix. An engine that learns only now how many
    tokens the prompt has sets `prompt_tokens`.
    `on_done` runs on the event loop once the engine has let go of the job, whatever happened.
    `on_interval` runs in the worker thread with the seconds between two tokens.
    `on_started` is called by an engine that may still refuse a job it was given, once it does not.
    `adapter_id` tells which of its loaded adapters the engine has taken for it; 0 for none.
    An engine that runs on the event loop sets `on_cancel` to hear of a cancel at once.
    """

    task: Task
    mailbox: Mailbox
    on_done: Callable[[], None]
    on_interval: Callable[[float], None] = lambda seconds: None
    on_started: Callable[[], None] = lambda: None
    on_cancel: Callable[[], object] = lambda: None
    started_at: float | None = None
    first_token_at: float | None = None
    last_step_at: float | None = None
    completion_tokens: int = 0
    wasted_tokens: int = 0
    cached_tokens: int = 0
    prompt_tokens: int | None = None
    adapter_id: int = 0
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the worker to stop after the token it is making."""
        self._cancelled.set()
        self.on_cancel()

    @property
    def token_task(self) -> TokenTask:
        """The task, in an engine whose tokenizer is in this process."""
        assert isinstance(self.task, TokenTask), "the task is another engine's"
        return self.task

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        known = self.prompt_tokens
        prompt_tokens = self.task.prompt_tokens if known is None else known
        return Usage(prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def is_cancelled(self) -> bool:
        """Whether the rest is not wanted any more."""
        return self._cancelled.is_set()
