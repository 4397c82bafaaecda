"""A job in the step loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic

from llmserve.domain import TokenLogprobs
from llmserve.engines.batching.computation import Row
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.bridge import StopStringMatched, TokenBridge
from llmserve.engines.job import Job
from llmserve.engines.scores import Scores
from llmserve.errors import LLMServeError


@dataclass(slots=True, eq=False)
class Stream(Generic[Row]):
    """A job with all that its steps need. Owned by the step loop's thread.

    Attributes:
        bridge: makes events of its tokens.
        row: its sampling state.
        sequence: what the scheduler knows of it.
    """

    job: Job
    bridge: TokenBridge
    row: Row
    sequence: Sequence = field(init=False)
    _is_started: bool = False

    def __post_init__(self) -> None:
        self.sequence = Sequence.of(self.job.token_task, self.job.adapter_id)

    def start(self) -> None:
        """Its first tokens are about to be computed. Does nothing the second time."""
        if not self._is_started:
            self._is_started = True
            self.job.cached_tokens = self.sequence.num_cached
            self.bridge.start()
            if self.sequence.scoring is not None:
                for scores in self.sequence.scoring.take_found():
                    self.tell(scores)

    def tell(self, scores: Scores) -> None:
        """Publish log probabilities of the prompt's next tokens."""
        self.bridge.tell(scores)

    def accept(self, token_id: int, logprobs: TokenLogprobs | None) -> bool:
        """Publish a token; returns whether it was the last one and the stream has ended."""
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
        """It was cancelled, or nothing was to be generated."""
        self.bridge.end()

    def fail(self, error: LLMServeError) -> None:
        """It cannot go on."""
        self.bridge.fail(error)


Admit = Callable[[Job], Stream[Row]]
"""Makes a stream of a job; may raise whatever the job's prompt provokes."""
