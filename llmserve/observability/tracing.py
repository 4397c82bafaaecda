"""OpenTelemetry: the caller's trace goes on through queue, prefill and decode. An extra.

Attribute names follow OpenTelemetry's semantic conventions for generative AI.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmserve.errors import ConfigurationError
from llmserve.observability.timings import RequestTimings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE: Final = "llmserve"
FLUSH_MILLISECONDS: Final = 3000
GOOD_OUTCOMES: Final = frozenset({"stop", "length", "timeout", "cancelled"})
"""Outcomes that are no error."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Readings of the monotonic clock; `None` where a request never came so far."""

    arrived_at: float
    admitted_at: float | None
    first_token_at: float | None
    last_token_at: float | None
    ended_at: float


class Tracer(Protocol):
    """Tells a collector of requests that are over."""

    def context_from(self, headers: Mapping[str, str]) -> Any:
        """The caller's trace (`traceparent`, `tracestate`); `None` without one."""
        ...

    def record(self, timings: RequestTimings, moments: Moments, context: Any) -> None:
        """One request, and its parts."""
        ...

    def close(self) -> None:
        """Send what is left, but do not wait long."""
        ...


class NullTracer:
    """Where nobody collects."""

    def context_from(self, headers: Mapping[str, str]) -> Any:
        """Nothing."""
        return None

    def record(self, timings: RequestTimings, moments: Moments, context: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def build_tracer(endpoint: str | None) -> Tracer:
    """A tracer that sends to the collector at this URL (OTLP over HTTP).

    Raises:
        ConfigurationError: the extra is not installed.
    """
    if endpoint is None:
        return NullTracer()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigurationError(
            "otlp_endpoint is set and OpenTelemetry is not installed; "
            "pip install 'llmserve[tracing]'"
        ) from error
    return SpanTracer(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces"))


class SpanTracer:
    """Writes spans after the fact, from the readings; a thread of the SDK sends them."""

    def __init__(
        self,
        exporter: SpanExporter,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            resource=Resource.create({"service.name": SERVICE}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()
        self._offset_ns = wall_ns() - int(clock() * 1e9)

    def context_from(self, headers: Mapping[str, str]) -> Any:
        """A malformed traceparent is ignored, as the specification wants."""
        if "traceparent" not in headers:
            return None
        names = ("traceparent", "tracestate")
        return self._propagator.extract({n: headers[n] for n in names if n in headers})

    def record(self, timings: RequestTimings, moments: Moments, context: Any) -> None:
        """A server span, with a child for each part that there was."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        span = self._tracer.start_span(
            f"generate {timings.model}",
            context=context,
            kind=SpanKind.SERVER,
            start_time=self._ns(moments.arrived_at),
            attributes=_attributes(timings),
        )
        if timings.outcome not in GOOD_OUTCOMES:
            span.set_status(Status(StatusCode.ERROR, timings.outcome))
            span.set_attribute("error.type", timings.outcome)
        inside = set_span_in_context(span)
        for name, begun, ended in _parts(moments):
            part = self._tracer.start_span(name, context=inside, start_time=self._ns(begun))
            part.end(self._ns(ended))
        span.end(self._ns(moments.ended_at))

    def close(self) -> None:
        """Send what is left, within a bound."""
        self._provider.force_flush(FLUSH_MILLISECONDS)
        self._provider.shutdown()

    def _ns(self, reading: float) -> int:
        return int(reading * 1e9) + self._offset_ns


def _attributes(timings: RequestTimings) -> dict[str, str | int | tuple[str, ...]]:
    return {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": timings.model,
        "gen_ai.response.finish_reasons": (timings.outcome,),
        "gen_ai.usage.input_tokens": timings.prompt_tokens,
        "gen_ai.usage.output_tokens": timings.completion_tokens,
        "llmserve.cached_tokens": timings.cached_tokens,
        "llmserve.key": timings.key,
        "llmserve.request_id": timings.request_id,
    }


def _parts(moments: Moments) -> list[tuple[str, float, float]]:
    queue_end = moments.admitted_at if moments.admitted_at is not None else moments.ended_at
    parts = [("queue", moments.arrived_at, queue_end)]
    if moments.admitted_at is None:
        return parts
    first = moments.first_token_at
    parts.append(("prefill", moments.admitted_at, first if first is not None else moments.ended_at))
    if first is not None and moments.last_token_at is not None:
        parts.append(("decode", first, moments.last_token_at))
    return parts
