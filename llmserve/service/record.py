"""What becomes known of one request, from its admission to its end."""

from __future__ import annotations

from dataclasses import replace

from llmserve.domain import Caller, Failed, Finish, Terminal, Usage
from llmserve.errors import Displaced
from llmserve.observability.context import current_trace
from llmserve.observability.timings import RequestTimings
from llmserve.observability.tracing import READ, Moments
from llmserve.service.recorder import Recorder


class RequestRecord:
    """Keeps the moments of one request and publishes them, in the order of its life: `admitted`,
    `interval`*, perhaps `cancelled`, then `released` and `closed`.

    The last two come in either order: the engine releases a request, its reader closes it. Owned
    by the event loop; only `interval` is called by the thread that computes. How long background
    work takes says nothing of how others are served, and is in no series of latencies.
    """

    def __init__(
        self, recorder: Recorder, request_id: str, model: str, caller: Caller, arrived_at: float
    ) -> None:
        self.arrived_at = arrived_at
        self._recorder = recorder
        self._metrics = recorder.metrics
        self._request_id = request_id
        self._model = model
        self._caller = caller
        self._trace = current_trace.get()
        self._admitted_at: float | None = None
        self._cancelled_at: float | None = None

    def admitted(self) -> None:
        """Its turn has come."""
        self._admitted_at = now = self._recorder.clock()
        if not self._caller.is_background:
            self._metrics.queue_time.labels(self._model).observe(now - self.arrived_at)

    def interval(self, seconds: float) -> None:
        """One more token was made, so long after the one before."""
        if not self._caller.is_background:
            self._metrics.inter_token_latency.labels(self._model).observe(seconds)

    def cancelled(self) -> None:
        """It was asked to stop while the engine works on it."""
        self._cancelled_at = self._recorder.clock()

    def released(self, usage: Usage, wasted_tokens: int) -> None:
        """The engine is done with it. Nobody waited any more for the wasted ones of its tokens."""
        metrics, model = self._metrics, self._model
        metrics.prompt_tokens.labels(model).inc(usage.prompt_tokens)
        metrics.generation_tokens.labels(model).inc(usage.completion_tokens)
        metrics.wasted_tokens.labels(model).inc(wasted_tokens)
        metrics.prefix_cache_queries.labels(model).inc(usage.prompt_tokens)
        metrics.prefix_cache_hits.labels(model).inc(usage.cached_tokens)
        self._observe_cancel()

    def closed(
        self,
        terminal: Terminal | None,
        usage: Usage,
        first_token_at: float | None,
        last_token_at: float | None,
    ) -> None:
        """Its reader is done with it; the clock readings are `None` where there was no token."""
        moments = self.moments(first_token_at, last_token_at)
        timings = self._timings(moments, terminal, usage)
        if not self._caller.is_background:
            self._observe(timings)
        self._count(terminal)
        is_background = self._caller.is_background
        self._recorder.finished(timings, moments, self._trace, is_background=is_background)

    def was_read(self) -> None:
        """It was answered without a generation; series about generations leave it out."""
        moments = self.moments(None, None)
        timings = self._timings(moments, None, Usage())
        timings = replace(timings, outcome=READ, queue_seconds=0.0)
        self._recorder.finished(timings, moments, self._trace)

    def moments(self, first_token_at: float | None, last_token_at: float | None) -> Moments:
        """Of its life until now."""
        return Moments(
            arrived_at=self.arrived_at,
            admitted_at=self._admitted_at,
            first_token_at=first_token_at,
            last_token_at=last_token_at,
            ended_at=self._recorder.clock(),
        )

    def _timings(self, moments: Moments, terminal: Terminal | None, usage: Usage) -> RequestTimings:
        m = moments
        waited_until = m.admitted_at if m.admitted_at is not None else m.ended_at
        return RequestTimings(
            request_id=self._request_id,
            model=self._model,
            key=self._caller.name,
            outcome=_outcome(terminal),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            queue_seconds=waited_until - m.arrived_at,
            prefill_seconds=_between(m.admitted_at, m.first_token_at),
            ttft_seconds=_between(m.arrived_at, m.first_token_at),
            decode_seconds=_between(m.first_token_at, m.last_token_at),
            duration_seconds=m.ended_at - m.arrived_at,
        )

    def _observe_cancel(self) -> None:
        if self._cancelled_at is not None:
            seconds = self._recorder.clock() - self._cancelled_at
            self._metrics.cancel_latency.labels(self._model).observe(seconds)

    def _observe(self, timings: RequestTimings) -> None:
        metrics, model = self._metrics, self._model
        metrics.e2e_latency.labels(model).observe(timings.duration_seconds)
        for histogram, seconds in (
            (metrics.time_to_first_token, timings.ttft_seconds),
            (metrics.prefill_time, timings.prefill_seconds),
            (metrics.decode_time, timings.decode_seconds),
        ):
            if seconds is not None:
                histogram.labels(model).observe(seconds)

    def _count(self, terminal: Terminal | None) -> None:
        metrics, model = self._metrics, self._model
        match terminal:
            case Finish(reason):
                metrics.finished.labels(model, reason.value).inc()
            case Failed(Displaced()):
                metrics.displaced.labels(model).inc()
            case Failed(error):
                metrics.failed.labels(model, error.code).inc()
            case _:
                metrics.cancelled.labels(model).inc()


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
