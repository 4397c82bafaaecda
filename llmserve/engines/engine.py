"""What an engine is, and what a generator is: an engine that continues prompts.

Base classes and no protocols, so that a loaded model can be asked what it does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from llmserve.domain import (
    Caller,
    EngineInfo,
    EngineStats,
    GenerationRequest,
    LoadProgress,
    Prompt,
    WarmReport,
)
from llmserve.engines.job import Job
from llmserve.engines.task import Task
from llmserve.errors import InvalidRequest, LLMServeError

if TYPE_CHECKING:
    from llmserve.text.spelling import Spelling
    from llmserve.text.tokenizer import Tokenizer

T = TypeVar("T")
Hold = Callable[[], Callable[[], None]]
"""Called when work for a request begins; what it returns is called once when that work is over."""


class Engine(ABC):
    """Serves one model. Every method is called on the event loop's thread."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many requests may run at once."""

    def drain_upstream(self, url: str, *, is_drained: bool) -> None:
        """Send no more requests to an upstream, or send some again.

        Raises:
            InvalidRequest: it has no such upstream.
        """
        raise InvalidRequest("this model is served here and has no upstreams", param="model")

    @property
    def can_pause(self) -> bool:
        """Whether background jobs take no slot: they run in places of their own, beside `capacity`
        others, and give way to these between two steps."""
        return False

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """What was loaded and how; only after `load`."""

    @abstractmethod
    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Load the weights and compute a first result, off the event loop.

        `on_progress` is called from other threads.

        Raises:
            ModelBroken: the model cannot be loaded or does not work; says why.
            ModelUnloaded: the engine was closed while it warmed up.
        """

    @abstractmethod
    def stats(self) -> EngineStats:
        """The engine at this moment."""

    @abstractmethod
    async def read(
        self, work: Callable[[Tokenizer], T], *, size: int, caller: Caller, hold: Hold
    ) -> T:
        """What `work` makes of the tokenizer, on the threads where texts are made into tokens.
        `size` is in characters, or tokens.

        Raises:
            QueueFull: too many texts wait.
            NotReady: the engine is closed meanwhile, or `fail_preparing` was called with this.
            InvalidRequest: the tokenizer is not here.
        """

    @abstractmethod
    def fail_preparing(self, error: LLMServeError) -> int:
        """Whoever waits in `prepare` or `read` gets this error; returns for how many texts."""

    @abstractmethod
    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        """Run prompts, for a few tokens where the model generates, and keep the KV caches of
        prefixes; beside what runs.

        A prefix is text, encoded like a raw prompt, or messages that conversations begin with.
        Text matches a conversation only if it has the chat template's opening in it. A prefix
        that the model cannot keep is named in the report; what was pinned before stays.

        Raises:
            OutOfMemory: no room for a prefix or a prompt; the engine serves on.
            ModelUnloaded: the engine was closed meanwhile.
            LLMServeError: a prompt cannot be run.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop everything that runs, join the threads and let go of the model."""

    @property
    def serving(self) -> Engine:
        """What serves once this one is loaded: another one, where only the files that loading
        downloads say what a model is for."""
        return self


class Generator(Engine):
    """An engine that continues prompts with tokens.

    With `refuses_late` it may still refuse a job that was started: as soon as it does not, it calls
    the job's `on_started`.
    """

    refuses_late: ClassVar[bool] = False

    @property
    @abstractmethod
    def spelling(self) -> Callable[[int], Spelling]:
        """How the text of a token id is written; only after `load`. It goes on working when the
        engine is closed."""

    @property
    @abstractmethod
    def decode(self) -> Callable[[Sequence[int]], str]:
        """The text of tokens, without special ones; as `spelling`."""

    @abstractmethod
    async def prepare(
        self,
        requests: Sequence[GenerationRequest],
        caller: Caller,
        deadline: float,
        hold: Hold,
    ) -> Sequence[Task]:
        """Check requests that came together, and make their prompts into tokens: a task for each.

        `deadline` is a clock reading. `hold` is called for each piece of work that may go on after
        the caller has left.

        Raises:
            InvalidRequest: the prompt or a parameter cannot be served.
            QueueFull: too many prompts wait.
            NotReady: the engine is closed meanwhile, or `fail_preparing` was called with this.
            WaitTimeout: it took longer than the deadline allows.
        """

    @abstractmethod
    def start(self, job: Job) -> None:
        """Begin a job; returns at once. The job's mailbox gets exactly one terminal event.

        It must not be called when `capacity` jobs run.

        Raises:
            RuntimeError: the engine is closed.
        """
