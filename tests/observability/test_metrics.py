"""The series that dashboards key on."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmserve.observability.metrics import Metrics


def test_a_directory_that_prometheus_client_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="PROMETHEUS_MULTIPROC_DIR"):
        Metrics(tmp_path)


def test_the_first_series_are_there_with_their_labels() -> None:
    metrics = Metrics()
    metrics.running.labels("m").set(1)
    metrics.waiting.labels("m").set(2)
    metrics.rejected.labels("queue_full").inc()
    metrics.finished.labels("m", "stop").inc()
    metrics.prompt_tokens.labels("m").inc(3)
    metrics.generation_tokens.labels("m").inc(4)
    metrics.time_to_first_token.labels("m").observe(0.03)
    metrics.inter_token_latency.labels("m").observe(0.03)
    metrics.e2e_latency.labels("m").observe(1.2)
    metrics.loop_lag.observe(0.001)
    text = metrics.render().decode()
    for line in (
        'llmserve_num_requests_running{model="m"} 1.0',
        'llmserve_num_requests_waiting{model="m"} 2.0',
        'llmserve_requests_rejected_total{reason="queue_full"} 1.0',
        'llmserve_request_success_total{finished_reason="stop",model="m"} 1.0',
        'llmserve_prompt_tokens_total{model="m"} 3.0',
        'llmserve_generation_tokens_total{model="m"} 4.0',
        'llmserve_time_to_first_token_seconds_bucket{le="0.04",model="m"} 1.0',
        'llmserve_inter_token_latency_seconds_bucket{le="0.05",model="m"} 1.0',
        'llmserve_e2e_request_latency_seconds_bucket{le="1.5",model="m"} 1.0',
        "llmserve_event_loop_lag_seconds_count 1.0",
    ):
        assert line in text


def test_two_applications_in_one_process_do_not_share_series() -> None:
    first, second = Metrics(), Metrics()
    first.running.labels("m").set(1)
    assert 'running{model="m"}' not in second.render().decode()
