"""Tracing: off, missing, malformed; then spans at a real collector."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from collector import running_collector
from loguru import logger
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from server import free_port

from llmserve.errors import ConfigurationError
from llmserve.observability.timings import Operation, RequestTimings
from llmserve.observability.tracing import Moments, NullTracer, SpanTracer, build_tracer

TIMINGS = RequestTimings("r1", "demo", "alice", "stop", 7, 3, 2, 0.5, 0.5, 1.0, 1.0, 2.0)
MOMENTS = Moments(10.0, 10.5, 11.0, 12.0, 12.0)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class StuckExporter(SpanExporter):
    """A collector that takes no end."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.is_shut_down = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may_go_on.wait(20)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.is_shut_down.set()


def recorded(headers: dict[str, str], timings: RequestTimings = TIMINGS) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracer = SpanTracer(exporter)
    tracer.record(timings, MOMENTS, tracer.context_from(headers))
    tracer.close()
    return list(exporter.get_finished_spans())


def test_without_an_endpoint_nothing_happens() -> None:
    tracer = build_tracer(None)
    assert isinstance(tracer, NullTracer)
    assert tracer.context_from({"traceparent": PARENT}) is None
    tracer.record(TIMINGS, MOMENTS, None)
    tracer.close()


def test_without_the_packages_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"llmserve\[tracing\]"):
        build_tracer("http://127.0.0.1:1")


@pytest.mark.parametrize("endpoint", ["", "localhost:4318", "grpc://host:4317", "host"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="otlp_endpoint"):
        build_tracer(endpoint)


def test_a_collector_that_hangs_does_not_hold_up_closing() -> None:
    exporter = StuckExporter()
    tracer = SpanTracer(exporter, flush_seconds=0.01)
    told: list[str] = []
    sink = logger.add(
        lambda message: told.append(message.record["message"]),
        level="WARNING",
        filter="llmserve.observability.tracing",
    )
    tracer.record(TIMINGS, MOMENTS, None)
    tracer.close()
    logger.remove(sink)
    assert told == ["the last spans may be lost: the collector did not take them in time"]
    exporter.may_go_on.set()
    assert exporter.is_shut_down.wait(20)


def test_a_collector_that_is_not_there_fails_no_request_and_is_given_up() -> None:
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{free_port()}/v1/traces")
    tracer = SpanTracer(exporter, flush_seconds=0.01)
    for _ in range(600):  # more spans than the queue holds
        tracer.record(TIMINGS, MOMENTS, None)
    tracer.close()
    tracer.close()
    tracer.record(TIMINGS, MOMENTS, None)
    deadline = time.monotonic() + 20
    while any(thread.name.startswith("OtelBatch") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "its thread does not end"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319-b7ad6b7169203331-01",
        PARENT + "-more",
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace(parent: str) -> None:
    (span,) = [s for s in recorded({"traceparent": parent}) if s.parent is None]
    assert span.context.trace_id != 0x0AF7651916CD43DD8448EB211C80319C


def test_a_caller_that_does_not_sample_is_not_told_of() -> None:
    assert recorded({"traceparent": PARENT.removesuffix("01") + "00"}) == []


def test_tracestate_goes_on() -> None:
    spans = recorded({"traceparent": PARENT, "tracestate": "a=1,b=2"})
    assert len(spans) == 4
    assert {span.context.trace_state.to_header() for span in spans} == {"a=1,b=2"}


@pytest.mark.parametrize(
    ("outcome", "reasons", "is_error"),
    [("stop", ("stop",), False), ("timeout", ("timeout",), False), ("cancelled", (), False),
     ("engine_failed", (), True)],
)  # fmt: skip
def test_only_failures_are_errors(outcome: str, reasons: tuple[str, ...], is_error: bool) -> None:
    spans = recorded({}, replace(TIMINGS, outcome=outcome))
    (span,) = [s for s in spans if s.parent is None]
    assert span.attributes is not None
    assert span.attributes["gen_ai.response.finish_reasons"] == reasons
    assert span.attributes["llmserve.outcome"] == outcome
    assert (span.status.status_code is StatusCode.ERROR) == is_error
    assert span.attributes.get("error.type") == (outcome if is_error else None)


def test_a_request_to_encode_has_parts_of_its_own() -> None:
    encoded = replace(TIMINGS, outcome="encoded", operation=Operation.ENCODE)
    *parts, span = recorded({}, encoded)
    assert [part.name for part in parts] == ["queue", "encode"]
    assert span.name == "encode demo"
    assert span.attributes is not None
    assert span.attributes["gen_ai.operation.name"] == "embeddings"
    assert span.status.status_code is not StatusCode.ERROR


def test_readings_become_wall_time_even_when_the_clock_was_set() -> None:
    exporter, wall = InMemorySpanExporter(), [5_000_000_000]
    tracer = SpanTracer(exporter, clock=lambda: 12.0, wall_ns=lambda: wall[0])
    tracer.record(TIMINGS, MOMENTS, None)
    wall[0] += 3_600_000_000_000
    tracer.record(TIMINGS, MOMENTS, None)
    tracer.close()
    ends = [s.end_time for s in exporter.get_finished_spans() if s.parent is None]
    assert ends == [5_000_000_000, 3_605_000_000_000]


def test_a_malformed_parent_is_ignored_and_an_error_is_an_error() -> None:
    with running_collector() as collector:
        tracer = build_tracer(collector.url)
        context = tracer.context_from({"traceparent": "nonsense"})
        waited = Moments(10.0, None, None, None, 11.0)
        tracer.record(replace(TIMINGS, outcome="wait_timeout"), waited, context)
        tracer.close()
    span = collector.named("generate demo")
    assert span.parent_span_id == b""
    assert (span.status.code, span.status.message) == (2, "wait_timeout")
    assert {s.name for s in collector.spans} == {"generate demo", "queue"}


def test_the_parts_of_a_request_are_children_of_its_span_in_the_callers_trace() -> None:
    with running_collector() as collector:
        tracer = build_tracer(collector.url + "/")
        tracer.record(TIMINGS, MOMENTS, tracer.context_from({"traceparent": PARENT}))
        tracer.close()
    span = collector.named("generate demo")
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    seconds = {s.name: (s.end_time_unix_nano - s.start_time_unix_nano) / 1e9
               for s in collector.spans}  # fmt: skip
    assert seconds == {"generate demo": 2.0, "queue": 0.5, "prefill": 0.5, "decode": 1.0}
    for name in ("queue", "prefill", "decode"):
        assert collector.named(name).parent_span_id == span.span_id
    attributes = {a.key: a.value for a in span.attributes}
    assert attributes["gen_ai.usage.output_tokens"].int_value == 3
    assert attributes["llmserve.key"].string_value == "alice"
    assert attributes["llmserve.request_id"].string_value == "r1"
