"""The bridge: tokens from a blocking worker thread become events on the event loop.

A TextIteratorStreamer that `model.generate` (or any step loop) feeds with `put` and `end`,
and whose text the event loop reads with `async for`. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from transformers import TextIteratorStreamer

from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    PromptLogprobs,
    Started,
    TokenLogprobs,
    Usage,
)
from llmserve.engines.job import Job
from llmserve.engines.scores import Scores
from llmserve.engines.token_rule import AnswerRule
from llmserve.errors import LLMServeError
from llmserve.text.stop import StopMatcher
from llmserve.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch


class StopStringMatched(Exception):
    """Raised out of `put` so that `generate` does not compute one token too many."""


class TokenBridge(TextIteratorStreamer):
    """One job's streamer.

    The stock streamer holds text back to the next space, decodes the whole line again for
    every token, and leaves its reader waiting for ever when `generate` raises. This one
    decodes incrementally, screens stop strings, and always ends with one terminal event:
    `end` (finished, cancelled or out of time) or `fail`.

    `put`, `end` and `fail` belong to the worker thread; the event loop reads the job's mailbox.
    `wake` collects what has to run there, for a step loop that wakes it once for many streams.
    """

    def __init__(
        self,
        job: Job,
        tokenizer: Tokenizer,
        eos_ids: Collection[int],
        clock: Callable[[], float],
        wake: Callable[[Callable[[], None]], None] | None = None,
        rule: AnswerRule | None = None,
    ) -> None:
        """`rule` is told of each token before `is_over` is asked."""
        super().__init__(tokenizer.hf, skip_prompt=True)
        self._job = job
        task, sampling = job.token_task, job.task.sampling
        # `ignore_eos` is about the model's own.
        self._end_ids = {*(() if sampling.ignore_eos else eos_ids), *sampling.stop_token_ids}
        shown = task.shown_tokens if sampling.skips_special_tokens else tokenizer.special_ids
        self._detokenizer = tokenizer.detokenizer(task.prompt_ids, shown)
        self._stop = StopMatcher(sampling.stop, is_kept=sampling.includes_stop)
        self._clock = clock
        self._wake = wake
        self._rule = rule
        self._is_prompt_due = True
        self._last_token: int | None = None
        self._matched: str | None = None

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._job.usage

    def start(self) -> None:
        """The job has its thread and prefill begins."""
        self._job.started_at = self._job.last_step_at = self._clock()
        self._post(Started(self._job.task.prompt_tokens, cached_tokens=self._job.cached_tokens))

    def tell(self, scores: Scores) -> None:
        """Log probabilities of the prompt's next tokens, before the first one is accepted."""
        self._job.last_step_at = self._clock()
        self._post(PromptLogprobs(scores.tokens(self._job.task.sampling.prompt_logprobs or 0)))

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (first call) or the newest token, shape (1,).

        Raises:
            StopStringMatched: the text is complete; the terminal event is already posted.
        """
        if self._is_prompt_due:
            self._is_prompt_due = False
            return
        for token_id in value.flatten().tolist():
            self.accept(token_id)

    def accept(self, token_id: int, logprobs: TokenLogprobs | None = None) -> None:
        """One generated token; see `put`."""
        self._count(token_id)
        is_end = token_id in self._end_ids
        if is_end and not self._job.task.sampling.includes_stop:
            if logprobs is not None and self._job.task.sampling.prompt_logprobs is not None:
                # lm-eval takes the last of all entries for that of a generated token.
                self._post(Delta("", (token_id,), (logprobs,)))
            return
        text = self._detokenizer.push(token_id)
        is_screened = self._job.completion_tokens > self._job.task.sampling.min_tokens
        if is_screened and self._job.task.sampling.stop:
            screened = self._stop.feed(text)
            text, self._matched = screened.text, screened.matched
        logprobs_of_token = () if logprobs is None else (logprobs,)
        self._post(Delta(text, (token_id,), logprobs_of_token))
        if self._matched is not None:
            self.end()
            raise StopStringMatched

    def end(self) -> None:
        """Generation is over: flush what is held and post the terminal event."""
        if self._job.is_cancelled:
            self._post(Cancelled(self.usage))
            return
        if self._matched is None:
            self._flush()
        self._post(Finish(self._reason(), self.usage, self._matched, self._stop_token()))

    def fail(self, error: LLMServeError) -> None:
        """Generation broke: post the error as the terminal event."""
        self._post(Failed(error, self.usage))

    def is_over(self, token_id: int) -> bool:
        """Whether generation ends with this token: an end token, a complete answer, cancel or
        deadline."""
        is_whole = token_id in self._end_ids or self._is_complete
        return is_whole or self._job.is_cancelled or self._is_late()

    @property
    def _is_complete(self) -> bool:
        return self._rule is not None and self._rule.is_complete

    def _post(self, event: Event) -> None:
        self._job.mailbox.post(event, self._wake)

    def _count(self, token_id: int) -> None:
        job, now = self._job, self._clock()
        job.completion_tokens += 1
        if job.is_cancelled:
            job.wasted_tokens += 1
        if job.first_token_at is None:
            job.first_token_at = now
        elif job.last_step_at is not None:
            job.on_interval(now - job.last_step_at)
        job.last_step_at = now
        self._last_token = token_id

    def _flush(self) -> None:
        screened = self._stop.feed(self._detokenizer.flush())
        self._matched = screened.matched
        text = screened.text + self._stop.flush()
        if text:
            self._post(Delta(text, ()))

    def _is_late(self) -> bool:
        deadline = self._job.task.deadline
        return deadline is not None and self._clock() >= deadline

    def _reason(self) -> FinishReason:
        is_whole = self._last_token in self._end_ids or self._is_complete
        if self._matched is not None or is_whole:
            return FinishReason.STOP
        if self._job.completion_tokens >= self._job.task.max_tokens:
            return FinishReason.LENGTH
        return FinishReason.TIMEOUT

    def _stop_token(self) -> int | None:
        """The token that the request named and that ended the answer."""
        is_named = self._last_token in self._job.task.sampling.stop_token_ids
        return self._last_token if is_named and self._matched is None else None
