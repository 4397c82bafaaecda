"""What the step loop keeps for each job it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmserve.domain import TokenLogprobs
from llmserve.engines.bridge import StopStringMatched, TokenBridge
from llmserve.engines.job import Job
from llmserve.errors import LLMServeError


@dataclass(slots=True, eq=False)
class Request:
    """A job with its streamer and its sampling state, at which the loop does not look. Owned by the
    step loop's thread."""

    job: Job
    bridge: TokenBridge
    sampling: object
    is_started: bool = False

    def start(self, cached_tokens: int) -> None:
        """Its first tokens are about to be computed; `cached_tokens` need not be."""
        if not self.is_started:
            self.is_started = True
            self.job.cached_tokens = cached_tokens
            self.bridge.start()

    def accept(self, token_id: int, logprobs: TokenLogprobs | None) -> bool:
        """Publish a token; whether it was the last, in which case the stream has ended."""
        try:
            self.bridge.accept(token_id, logprobs)
        except StopStringMatched:
            return True
        if self.bridge.is_over(token_id) or (
            self.job.completion_tokens >= self.job.task.max_tokens
        ):
            self.bridge.end()
            return True
        return False

    def end(self) -> None:
        """It was cancelled."""
        self.bridge.end()

    def fail(self, error: LLMServeError) -> None:
        """It cannot go on."""
        self.bridge.fail(error)


Admit = Callable[[Job], Request]
