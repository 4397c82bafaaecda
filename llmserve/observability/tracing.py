"""OpenTelemetry: continues the caller's trace through queue, prefill and decode. An extra.

Attribute names follow OpenTelemetry's semantic conventions for generative AI.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from loguru import logger

from llmserve.clock import awake_clock
from llmserve.domain import FinishReason
from llmserve.errors import ConfigurationError
from llmserve.observability.timings import Operation, RequestTimings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE: Final = "llmserve"
PATH: Final = "/v1/traces"
FLUSH_SECONDS: Final = 3.0
OPERATION_NAMES: Final = {Operation.GENERATE: "text_completion", Operation.ENCODE: "embeddings"}
FINISH_REASONS: Final = frozenset(FinishReason)
READ: Final = "read"
"""The outcome of a request that a tokenizer answered."""
ENCODED: Final = "encoded"
"""The outcome of a request whose texts became numbers."""
GOOD_OUTCOMES: Final = FINISH_REASONS | {"cancelled", READ, ENCODED}
"""Outcomes that are not errors."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Readings of the process's clock; `None` if the request never got that far."""

    arrived_at: float
    admitted_at: float | None
    first_token_at: float | None
    last_token_at: float | None
    ended_at: float


class Tracer(Protocol):
    """Reports requests that have ended to a collector."""

    def context_from(self, headers: Mapping[str, str]) -> Any:
        """The caller's trace context (`traceparent`, `tracestate`); `None` without one."""
        ...

    def record(self, timings: RequestTimings, moments: Moments, context: Any) -> None:
        """Report one request and its parts."""
        ...

    def close(self) -> None:
        """Send what is left, within a time limit."""
        ...


class NullTracer:
    """Does nothing, where no collector is configured."""

    def context_from(self, headers: Mapping[str, str]) -> Any:
        """Always `None`."""
        return None

    def record(self, timings: RequestTimings, moments: Moments, context: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def build_tracer(endpoint: str | None) -> Tracer:
    """A tracer that sends to the collector at this URL (OTLP over HTTP).

    Raises:
        ConfigurationError: it is not a URL, or the extra is not installed.
    """
    if endpoint is None:
        return NullTracer()
    if not endpoint.lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            f"otlp_endpoint {endpoint!r} is not a URL; write it as in http://host:4318"
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return SpanTracer(OTLPSpanExporter(endpoint=endpoint.rstrip("/").removesuffix(PATH) + PATH))
    except ImportError as error:
        raise ConfigurationError(
            "otlp_endpoint is set and OpenTelemetry is not installed; "
            "pip install 'llmserve[tracing]'"
        ) from error


class SpanTracer:
    """Creates spans after the fact, from clock readings; a thread of the SDK sends them.

    If the collector does not keep up, the SDK drops the oldest spans and logs it.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        clock: Callable[[], float] = awake_clock,
        wall_ns: Callable[[], int] = time.time_ns,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            resource=Resource.create({"service.name": SERVICE}), shutdown_on_exit=False
        )
        self._exporter = exporter
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()
        self._clock = clock
        self._wall_ns = wall_ns
        self._flush_seconds = flush_seconds

    def context_from(self, headers: Mapping[str, str]) -> Any:
        """A malformed traceparent is ignored, as the specification requires."""
        if "traceparent" not in headers:
            return None
        names = ("traceparent", "tracestate")
        return self._propagator.extract({n: headers[n] for n in names if n in headers})

    def record(self, timings: RequestTimings, moments: Moments, context: Any) -> None:
        """Record a server span, with a child for each part that the request reached."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        # Computed each time: the wall clock may be set, and ours stops while the box is paused.
        offset_ns = self._wall_ns() - _ns(self._clock())
        span = self._tracer.start_span(
            f"{timings.operation} {timings.model}",
            context=context,
            kind=SpanKind.SERVER,
            start_time=_ns(moments.arrived_at) + offset_ns,
            attributes=_attributes(timings),
        )
        if timings.outcome not in GOOD_OUTCOMES:
            span.set_status(Status(StatusCode.ERROR, timings.outcome))
            span.set_attribute("error.type", timings.outcome)
        inside = set_span_in_context(span)
        for name, begun, ended in _parts(moments, timings.operation):
            part = self._tracer.start_span(name, context=inside, start_time=_ns(begun) + offset_ns)
            part.end(_ns(ended) + offset_ns)
        span.end(_ns(moments.ended_at) + offset_ns)

    def close(self) -> None:
        """Send what is left, within a time limit; doing it twice is harmless."""
        # The SDK exceeds its own time limits if the collector hangs; the thread is then abandoned.
        sending = threading.Thread(target=self._provider.shutdown, name="flush-spans", daemon=True)
        sending.start()
        sending.join(self._flush_seconds)
        if sending.is_alive():
            self._exporter.shutdown()  # ends its retries
            logger.warning("the last spans may be lost: the collector did not take them in time")


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _attributes(timings: RequestTimings) -> dict[str, str | int | tuple[str, ...]]:
    finish = (timings.outcome,) if timings.outcome in FINISH_REASONS else ()
    return {
        "gen_ai.operation.name": OPERATION_NAMES[timings.operation],
        "gen_ai.request.model": timings.model,
        "gen_ai.response.finish_reasons": finish,
        "gen_ai.usage.input_tokens": timings.prompt_tokens,
        "gen_ai.usage.output_tokens": timings.completion_tokens,
        "llmserve.cached_tokens": timings.cached_tokens,
        "llmserve.key": timings.key,
        "llmserve.outcome": timings.outcome,
        "llmserve.request_id": timings.request_id,
    }


def _parts(moments: Moments, operation: Operation) -> list[tuple[str, float, float]]:
    queue_end = moments.admitted_at if moments.admitted_at is not None else moments.ended_at
    parts = [("queue", moments.arrived_at, queue_end)]
    if moments.admitted_at is None:
        return parts
    if operation is Operation.ENCODE:
        return [*parts, ("encode", moments.admitted_at, moments.ended_at)]
    first = moments.first_token_at
    parts.append(("prefill", moments.admitted_at, first if first is not None else moments.ended_at))
    if first is not None and moments.last_token_at is not None:
        parts.append(("decode", first, moments.last_token_at))
    return parts
