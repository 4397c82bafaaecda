"""What becomes known of requests: metrics, logs, the accounting log, traces."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from llmserve.clock import awake_clock
from llmserve.domain import Caller
from llmserve.errors import LLMServeError
from llmserve.observability.accounting import AccountingEntry, AccountingLog
from llmserve.observability.context import access_timings
from llmserve.observability.metrics import Metrics
from llmserve.observability.timings import RequestTimings, warn_if_slow
from llmserve.observability.tracing import Moments, NullTracer, Tracer


class Recorder:
    """Where the facts about requests go. `log` is the accounting log, if there is one.

    Owned by the event loop; each request has a `RequestRecord`."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        log: AccountingLog | None = None,
        tracer: Tracer | None = None,
        slow_request_seconds: float | None = None,
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self.metrics = metrics
        self.clock = clock
        self._log = log
        self._tracer = tracer or NullTracer()
        self._slow_request_seconds = slow_request_seconds

    def refused(self, caller: Caller, error: LLMServeError) -> None:
        """A request that was not admitted."""
        self.metrics.rejected.labels(error.code).inc()
        self.metrics.key_rejected.labels(caller.name, error.code).inc()

    def load(self, model: str, running: int, waiting: int) -> None:
        """How many requests a model has now."""
        self.metrics.running.labels(model).set(running)
        self.metrics.waiting.labels(model).set(waiting)

    def background_load(self, model: str, running: int, waiting: int) -> None:
        """How many requests a model has in the background now."""
        self.metrics.background_running.labels(model).set(running)
        self.metrics.background_waiting.labels(model).set(waiting)

    def finished(
        self, timings: RequestTimings, moments: Moments, trace: Any, *, is_background: bool = False
    ) -> None:
        """A request that was admitted and is over. `trace` is its client's, as the tracer read
        it. Background work is never too slow."""
        self._count(timings)
        line = access_timings.get()
        if line is not None:
            line.append(timings)
        if not is_background:
            warn_if_slow(timings, self._slow_request_seconds)
        self._tracer.record(timings, moments, trace)
        if self._log is not None:
            self._log.write(_entry(timings))

    def _count(self, timings: RequestTimings) -> None:
        metrics, key = self.metrics, timings.key
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


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
