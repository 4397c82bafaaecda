"""One job on its way: to an upstream, to a second one where nothing came of the first, and back as
events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from llmserve.domain import Delta, Finish, RemoteSpec, Started, Usage
from llmserve.engines.attempt_report import AttemptReport, Outcome
from llmserve.engines.job import Job
from llmserve.engines.remote.fleet import Upstreams
from llmserve.engines.remote.retry_budget import RetryBudget
from llmserve.engines.remote.silence import Silence
from llmserve.engines.remote.task import RemoteTask
from llmserve.engines.remote.transport import (
    Accepted,
    Counted,
    Lost,
    Piece,
    Refused,
    Unreachable,
)
from llmserve.engines.remote.upstream import Upstream, Visit
from llmserve.errors import (
    LLMServeError,
    NotReady,
    ServerError,
    UpstreamFailed,
    UpstreamTimeout,
)

Clock = Callable[[], float]

MOST_LOSSES: Final = 2


@dataclass(frozen=True, slots=True)
class Carrier:
    """What all deliveries of an engine share.

    Attributes:
        on_attempt: called after each attempt.
    """

    spec: RemoteSpec
    upstreams: Upstreams
    budget: RetryBudget
    clock: Clock
    on_attempt: Callable[[AttemptReport], None]


class _Moving(Exception):
    """Nothing came of an attempt, and another upstream may be asked."""

    def __init__(
        self, error: LLMServeError, *, is_free: bool = False, may_repeat: bool = False
    ) -> None:
        """`is_free` of the budget; `may_repeat` at the same upstream, if there is no other."""
        super().__init__(error.message)
        self.error = error
        self.is_free = is_free
        self.may_repeat = may_repeat


@dataclass(slots=True)
class Delivery:
    """Owned by the event loop; it is cancelled when the job is.

    A request is sent again only while nothing of its answer came and nobody can be generating it:
    it never arrived, it was refused, or its connection ended. Arriving nowhere costs nothing of the
    budget: each upstream is tried once. A connection that ends may be an old one, or an upstream
    that this request has killed: it is not let kill a third.
    """

    carrier: Carrier
    job: Job
    task: RemoteTask
    _tried: list[Upstream] = field(default_factory=list)
    _losses: int = 0
    _first_token_seconds: float | None = None
    _is_counted: bool = False
    _has_text: bool = False
    _has_logprobs: bool = False

    async def run(self) -> Finish:
        """The answer's events go to the job's mailbox, but for the last, which is returned.

        Raises:
            LLMServeError: there is no whole answer.
        """
        self.carrier.budget.request()
        upstream = self.carrier.upstreams.choose(self.task, ())
        while True:
            try:
                return await self._attempt(upstream)
            except _Moving as moving:
                self._tried.append(upstream)
                upstream = self._next(moving)

    def _next(self, moving: _Moving) -> Upstream:
        """Whom to ask after an attempt from which nothing came.

        Raises:
            LLMServeError: nobody; what the attempt came to.
        """
        try:
            upstream = self.carrier.upstreams.choose(self.task, self._tried)
        except NotReady:
            upstream = self._tried[-1]
            if not moving.may_repeat or not upstream.is_available:
                raise moving.error from None
        if not moving.is_free and not self.carrier.budget.take():
            raise moving.error
        return upstream

    async def _attempt(self, upstream: Upstream) -> Finish:
        written = upstream.write(self.task)
        outcome = Outcome.CANCELLED
        with upstream.visit(self.task) as visit:
            try:
                finish = await self._read(upstream, written, visit)
                outcome = Outcome.ANSWERED
                return finish
            except Unreachable as error:
                outcome = Outcome.UNREACHABLE
                visit.failed()
                upstream.went_away(error.problem)
                message = "the server of this model cannot be reached"
                raise _Moving(UpstreamFailed(message), is_free=True) from error
            except Refused as refused:
                outcome = Outcome.REFUSED
                raise self._after_refusal(upstream, refused, visit) from refused
            except Lost as error:
                outcome = Outcome.LOST
                visit.failed()
                raise self._after_loss() from error
            except TimeoutError as error:
                outcome = Outcome.TIMEOUT
                visit.failed()
                raise self._after_silence() from error
            except LLMServeError as error:
                outcome = Outcome.FAILED
                if isinstance(error, ServerError):
                    visit.failed()
                raise
            finally:
                self.carrier.on_attempt(
                    AttemptReport(
                        upstream.url, outcome, bool(self._tried), self._first_token_seconds
                    )
                )

    async def _read(self, upstream: Upstream, written: object, visit: Visit) -> Finish:
        spec = self.carrier.spec
        limit = spec.connect_seconds + spec.first_token_seconds
        pieces = upstream.transport.answer(written, self.task.headers)
        async with Silence(limit, self.carrier.clock) as silence, contextlib.aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Finish):
                    if self._first_token_seconds is None:
                        self._first_token_seconds = visit.began(self.carrier.clock())
                    return self._finished(piece)
                if not isinstance(piece, Accepted):
                    silence.heard(spec.between_tokens_seconds)
                self._take(piece, visit)
        raise UpstreamFailed("the server of this model ended the answer in the middle")

    def _take(self, piece: Piece, visit: Visit) -> None:
        job = self.job
        match piece:
            case Delta():
                now = self.carrier.clock()
                if self._first_token_seconds is None:
                    self._first_token_seconds = visit.began(now)
                self._has_text = self._has_text or bool(piece.text)
                self._has_logprobs = self._has_logprobs or bool(piece.logprobs)
                self._count(now, len(piece.logprobs) or 1)
                job.mailbox.post(piece)
            case Accepted() if job.started_at is None:
                job.started_at = job.last_step_at = self.carrier.clock()
                job.mailbox.post(Started(self.task.prompt_tokens))
                job.on_started()
            case Counted(usage):
                self._counted(usage)

    def _count(self, now: float, tokens: int) -> None:
        """Of a piece that says how many tokens it is only by the log probabilities it has."""
        job = self.job
        if not self._is_counted:
            job.completion_tokens += tokens
        if job.first_token_at is None:
            job.first_token_at = now
        elif job.last_step_at is not None:
            job.on_interval(now - job.last_step_at)
        job.last_step_at = now

    def _counted(self, usage: Usage) -> None:
        job = self.job
        self._is_counted = True
        job.completion_tokens = usage.completion_tokens
        job.cached_tokens = usage.cached_tokens
        if usage.prompt_tokens:
            job.prompt_tokens = usage.prompt_tokens

    def _finished(self, finish: Finish) -> Finish:
        is_owed = self.task.sampling.logprobs is not None and self._has_text
        if is_owed and not self._has_logprobs:
            raise UpstreamFailed(
                "the server of this model tells no log probabilities; leave them out"
            )
        usage = replace(self.job.usage, reasoning_tokens=finish.usage.reasoning_tokens)
        return replace(finish, usage=usage)

    def _after_refusal(
        self, upstream: Upstream, refused: Refused, visit: Visit
    ) -> LLMServeError | _Moving:
        refusal = refused.refusal
        if refusal.is_fault:
            visit.failed()
        if refusal.is_draining:
            upstream.drains()
        return _Moving(refusal.error) if refusal.may_move else refusal.error

    def _after_loss(self) -> LLMServeError | _Moving:
        if self._first_token_seconds is not None:
            return UpstreamFailed(
                "the connection to the server of this model broke in the middle of the answer"
            )
        error = UpstreamFailed("the server of this model closed the connection without an answer")
        self._losses += 1
        return _Moving(error, may_repeat=True) if self._losses < MOST_LOSSES else error

    def _after_silence(self) -> UpstreamTimeout:
        """It may still be generating: nobody else is asked."""
        spec = self.carrier.spec
        if self._first_token_seconds is None:
            return UpstreamTimeout(
                f"the server of this model did not begin its answer within "
                f"{spec.first_token_seconds:g} s"
            )
        return UpstreamTimeout(
            f"the server of this model was silent for {spec.between_tokens_seconds:g} s in the "
            "middle of the answer"
        )
