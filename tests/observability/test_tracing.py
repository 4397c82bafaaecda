"""Tracing: off, missing, malformed; then spans at a real collector."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from collector import running_collector

from llmserve.errors import ConfigurationError
from llmserve.observability.timings import RequestTimings
from llmserve.observability.tracing import Moments, NullTracer, build_tracer

TIMINGS = RequestTimings("r1", "demo", "alice", "stop", 7, 3, 2, 0.5, 0.5, 1.0, 1.0, 2.0)
MOMENTS = Moments(10.0, 10.5, 11.0, 12.0, 12.0)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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
