"""What an encoder is: an engine that makes numbers of texts."""

from __future__ import annotations

from abc import abstractmethod

from llmserve.domain import Caller, EncodingPurpose, EncodingRequest
from llmserve.engines.encoding_job import EncodingJob
from llmserve.engines.encoding_task import EncodingTask
from llmserve.engines.engine import Engine, Hold


class Encoder(Engine):
    """An engine that embeds, scores or classifies texts."""

    @property
    @abstractmethod
    def purposes(self) -> tuple[EncodingPurpose, ...]:
        """What it encodes for; only after `load`."""

    @abstractmethod
    async def prepare(
        self, request: EncodingRequest, caller: Caller, deadline: float, hold: Hold
    ) -> EncodingTask:
        """Check a request, and make its texts into tokens.

        `deadline` is a clock reading. `hold` is called for each piece of work that may go on after
        the caller has left.

        Raises:
            InvalidRequest: an input or a parameter cannot be served, or the model is not for it.
            QueueFull: too many texts wait.
            NotReady: the engine is closed meanwhile, or `fail_preparing` was called with this.
            WaitTimeout: it took longer than the deadline allows.
        """

    @abstractmethod
    def start(self, job: EncodingJob) -> None:
        """Begin a job; returns at once.

        It must not be called when `capacity` jobs run.

        Raises:
            RuntimeError: the engine is closed.
        """
