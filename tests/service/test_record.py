"""What becomes known of a request: series, the accounting log, the access line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from manual_clock import ManualClock

from llmserve.domain import (
    Caller,
    Cancelled,
    Failed,
    Finish,
    FinishReason,
    Terminal,
    Usage,
)
from llmserve.errors import GenerationFailed, QueueFull
from llmserve.observability.accounting import AccountingLog
from llmserve.observability.context import access_timings, current_trace
from llmserve.observability.metrics import Metrics
from llmserve.observability.timings import RequestTimings
from llmserve.observability.tracing import Moments, NullTracer
from llmserve.service.record import RequestRecord
from llmserve.service.recorder import Recorder

USAGE = Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2)


class Collector(NullTracer):
    def __init__(self) -> None:
        self.spans: list[tuple[RequestTimings, Moments, Any]] = []

    def record(self, timings: RequestTimings, moments: Moments, context: Any) -> None:
        self.spans.append((timings, moments, context))


@dataclass
class House:
    log: AccountingLog | None = None
    clock: ManualClock = field(default_factory=ManualClock)
    metrics: Metrics = field(default_factory=Metrics)
    tracer: Collector = field(default_factory=Collector)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.metrics, log=self.log, tracer=self.tracer, clock=self.clock)

    def record(self) -> RequestRecord:
        return RequestRecord(self.recorder, "r", "m", Caller("ann"), self.clock())

    def sample(self, series: str) -> float:
        for line in self.metrics.render().decode().splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        return 0.0


def answered(house: House, terminal: Terminal | None) -> RequestTimings:
    """A request that waited 1 s, had its first token 2 s later and its last after 4 s more."""
    record = house.record()
    house.clock.now += 1.0
    record.admitted()
    first, last = house.clock() + 2.0, house.clock() + 6.0
    house.clock.now += 7.0
    record.released(USAGE, wasted_tokens=1)
    record.closed(terminal, USAGE, first, last)
    return house.tracer.spans[-1][0]


def test_every_second_of_a_request_is_told_apart() -> None:
    house = House()
    timings = answered(house, Finish(FinishReason.STOP, USAGE))
    assert timings.outcome == "stop"
    assert (timings.queue_seconds, timings.prefill_seconds, timings.ttft_seconds) == (1, 2, 3)
    assert (timings.decode_seconds, timings.duration_seconds) == (4, 8)
    assert house.sample('llmserve_e2e_request_latency_seconds_sum{model="m"}') == 8
    assert house.sample('llmserve_request_decode_time_seconds_sum{model="m"}') == 4
    assert house.sample('llmserve_request_queue_time_seconds_sum{model="m"}') == 1


def test_tokens_are_counted_for_the_model_and_for_the_key() -> None:
    house = House()
    answered(house, Finish(FinishReason.LENGTH, USAGE))
    assert house.sample('llmserve_prompt_tokens_total{model="m"}') == 5
    assert house.sample('llmserve_generation_tokens_total{model="m"}') == 3
    assert house.sample('llmserve_tokens_generated_after_disconnect_total{model="m"}') == 1
    assert house.sample('llmserve_prefix_cache_queries_total{model="m"}') == 5
    assert house.sample('llmserve_prefix_cache_hits_total{model="m"}') == 2
    assert house.sample('llmserve_key_tokens_total{key="ann",kind="completion"}') == 3


@pytest.mark.parametrize(
    ("terminal", "outcome", "series"),
    [
        (Cancelled(USAGE), "cancelled", 'request_cancelled_total{model="m"}'),
        (None, "cancelled", 'request_cancelled_total{model="m"}'),
        (
            Failed(GenerationFailed("broke"), USAGE),
            "generation_failed",
            'request_failure_total{model="m",reason="generation_failed"}',
        ),
        (
            Finish(FinishReason.TIMEOUT, USAGE),
            "timeout",
            'request_success_total{finished_reason="timeout",model="m"}',
        ),
    ],
)
def test_every_end_has_its_series(terminal: Terminal | None, outcome: str, series: str) -> None:
    house = House()
    assert answered(house, terminal).outcome == outcome
    assert house.sample(f"llmserve_{series}") == 1


def test_a_request_without_a_turn_only_waited() -> None:
    house = House()
    record = house.record()
    house.clock.now += 3.0
    record.closed(Cancelled(Usage()), Usage(), None, None)
    (timings, moments, _) = house.tracer.spans[0]
    assert (timings.queue_seconds, timings.ttft_seconds, moments.admitted_at) == (3, None, None)
    assert house.sample('llmserve_time_to_first_token_seconds_count{model="m"}') == 0


def test_a_cancel_is_timed_until_the_engine_lets_go() -> None:
    house = House()
    record = house.record()
    record.admitted()
    record.cancelled()
    record.closed(Cancelled(USAGE), USAGE, None, None)
    house.clock.now += 0.5
    record.released(USAGE, wasted_tokens=0)
    assert house.sample('llmserve_cancel_latency_seconds_sum{model="m"}') == 0.5


def test_the_trace_is_the_one_in_which_the_request_came() -> None:
    house = House()
    token = current_trace.set("its client's")
    record = house.record()
    current_trace.reset(token)
    record.closed(None, USAGE, None, None)
    assert house.tracer.spans[0][2] == "its client's"


def test_the_access_line_and_the_accounting_log_have_it(tmp_path: Path) -> None:
    log = AccountingLog(tmp_path / "log", 2**20, 1)
    house = House(log)
    line: list[RequestTimings] = []
    token = access_timings.set(line)
    answered(house, Finish(FinishReason.STOP, USAGE))
    access_timings.reset(token)
    log.close()
    assert [timings.request_id for timings in line] == ["r"]
    assert '"request_id":"r"' in (tmp_path / "log").read_text().replace(" ", "")


def test_refusals_are_counted_by_reason() -> None:
    house = House()
    house.recorder.refused(Caller("ann"), QueueFull("full"))
    assert house.sample('llmserve_requests_rejected_total{reason="queue_full"}') == 1
    assert house.sample('llmserve_key_rejected_total{key="ann",reason="queue_full"}') == 1
