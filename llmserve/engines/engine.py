"""What an engine is: the one protocol behind which tokens are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from llmserve.domain import EngineInfo, EngineStats, LoadProgress, Prompt, WarmReport
from llmserve.engines.job import Job

if TYPE_CHECKING:
    from llmserve.text.tokenizer import Tokenizer


class Engine(Protocol):
    """Makes tokens for one model. Every method is called on the event loop's thread."""

    @property
    def capacity(self) -> int:
        """How many jobs may run at once; `start` must not be called beyond it."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; only after `load`."""
        ...

    @property
    def info(self) -> EngineInfo:
        """What was loaded and how; only after `load`."""
        ...

    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Load the weights and generate a first token, off the event loop.

        `on_progress` is called from other threads.

        Raises:
            ModelBroken: the model cannot be loaded or cannot generate; says why.
            ModelUnloaded: the engine was closed while it warmed up.
        """
        ...

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        """Run prompts for a few tokens and keep the KV caches of prefixes; beside what runs.

        A prefix is text, encoded like a raw prompt, or messages that conversations begin with.
        Text matches a conversation only if it has the chat template's opening in it. A prefix
        that the model cannot keep is told in the report; what was pinned before stays.

        Raises:
            OutOfMemory: no room for a prefix or a prompt; the engine serves on.
            ModelUnloaded: the engine was closed meanwhile.
            LLMServeError: a prompt cannot be generated from.
        """
        ...

    def start(self, job: Job) -> None:
        """Begin a job; returns at once. The job's mailbox gets exactly one terminal event."""
        ...

    def stats(self) -> EngineStats:
        """The engine at this moment."""
        ...

    async def close(self) -> None:
        """Stop every job, join the threads and let go of the model."""
        ...
