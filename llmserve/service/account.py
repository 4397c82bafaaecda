"""What becomes known of a request when it is over: metrics, logs, the accounting log, traces."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmserve.domain import Caller, Failed, Finish, Terminal, Usage
from llmserve.errors import LLMServeError
from llmserve.observability.accounting import AccountingEntry, AccountingLog
from llmserve.observability.context import access_timings
from llmserve.observability.metrics import Metrics
from llmserve.observability.timings import RequestTimings, warn_if_slow
from llmserve.observability.tracing import Moments, NullTracer, Tracer


@dataclass(frozen=True, slots=True)
class Story:
    """One generation that is over. `trace` is the caller's, as the tracer read it."""

    request_id: str
    model: str
    caller: Caller
    terminal: Terminal | None
    usage: Usage
    moments: Moments
    trace: Any = None

    def timings(self) -> RequestTimings:
        """The same, in seconds."""
        m = self.moments
        waited_until = m.admitted_at if m.admitted_at is not None else m.ended_at
        return RequestTimings(
            request_id=self.request_id,
            model=self.model,
            key=self.caller.name,
            outcome=_outcome(self.terminal),
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            cached_tokens=self.usage.cached_tokens,
            queue_seconds=waited_until - m.arrived_at,
            prefill_seconds=_between(m.admitted_at, m.first_token_at),
            ttft_seconds=_between(m.arrived_at, m.first_token_at),
            decode_seconds=_between(m.first_token_at, m.last_token_at),
            duration_seconds=m.ended_at - m.arrived_at,
        )


class Account:
    """Tells everyone who wants to know. `log` is the accounting log, where there is one."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        log: AccountingLog | None = None,
        tracer: Tracer | None = None,
        slow_request_seconds: float | None = None,
    ) -> None:
        self._metrics = metrics
        self._log = log
        self._tracer = tracer or NullTracer()
        self._slow_request_seconds = slow_request_seconds

    def refused(self, caller: Caller, error: LLMServeError) -> None:
        """A request that was not let in."""
        self._metrics.rejected.labels(error.code).inc()
        self._metrics.key_rejected.labels(caller.name, error.code).inc()

    def finished(self, story: Story) -> None:
        """A generation that was let in and is over."""
        timings = story.timings()
        self._count(timings)
        line = access_timings.get()
        if line is not None:
            line.append(timings)
        warn_if_slow(timings, self._slow_request_seconds)
        self._tracer.record(timings, story.moments, story.trace)
        if self._log is not None:
            self._log.write(_entry(timings))

    def _count(self, timings: RequestTimings) -> None:
        metrics, key = self._metrics, timings.key
        metrics.key_requests.labels(key).inc()
        metrics.key_tokens.labels(key, "prompt").inc(timings.prompt_tokens)
        metrics.key_tokens.labels(key, "completion").inc(timings.completion_tokens)
        metrics.key_queue.labels(key).observe(timings.queue_seconds)


def _entry(timings: RequestTimings) -> AccountingEntry:
    return AccountingEntry(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        request_id=timings.request_id,
        key=timings.key,
        model=timings.model,
        prompt_tokens=timings.prompt_tokens,
        completion_tokens=timings.completion_tokens,
        cached_tokens=timings.cached_tokens,
        outcome=timings.outcome,
        queue_seconds=round(timings.queue_seconds, 6),
        ttft_seconds=_rounded(timings.ttft_seconds),
        duration_seconds=round(timings.duration_seconds, 6),
    )


def _outcome(terminal: Terminal | None) -> str:
    match terminal:
        case Finish(reason):
            return reason.value
        case Failed(error):
            return error.code
        case _:
            return "cancelled"


def _between(begun: float | None, ended: float | None) -> float | None:
    return ended - begun if begun is not None and ended is not None else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
