"""The series that dashboards key on."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from llmserve.observability.exposition import Exposition
from llmserve.observability.metrics import Metrics
from llmserve.observability.worker_files import WorkerFiles

TTFT = ".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
ITL = ".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80"
STEP = "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384"
LATENCY = ".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"


def test_with_a_directory_the_series_are_told_from_it_and_come_back_when_it_was_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    metrics = Metrics(tmp_path)
    metrics.prompt_tokens.labels("m").inc(3)
    line = 'llmserve_prompt_tokens_total{model="m"} 3.0'
    assert line in metrics.render().decode()
    for file in tmp_path.iterdir():
        file.unlink()
    assert line in metrics.render().decode(), "of this process: it is in no file, but known"
    assert list(tmp_path.glob("*.db")) == []
    metrics.restore()
    assert line in Exposition(WorkerFiles(tmp_path), "none").render().decode()


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("num_requests_running", "gauge"),
        ("num_requests_waiting", "gauge"),
        ("prompt_tokens_total", "counter"),
        ("generation_tokens_total", "counter"),
        ("request_success_total", "counter"),
        ("requests_rejected_total", "counter"),
        ("tokens_generated_after_disconnect_total", "counter"),
        ("time_to_first_token_seconds", "histogram"),
        ("inter_token_latency_seconds", "histogram"),
        ("e2e_request_latency_seconds", "histogram"),
        ("request_queue_time_seconds", "histogram"),
        ("request_prefill_time_seconds", "histogram"),
        ("request_decode_time_seconds", "histogram"),
        ("cancel_latency_seconds", "histogram"),
        ("event_loop_lag_seconds", "histogram"),
        ("http_requests_total", "counter"),
        ("grpc_requests_total", "counter"),
        ("kv_cache_usage_perc", "gauge"),
        ("prefix_cache_queries_total", "counter"),
        ("prefix_cache_hits_total", "counter"),
        ("num_preemptions_total", "counter"),
        ("recurrent_states_used", "gauge"),
        ("recurrent_states", "gauge"),
        ("state_checkpoints", "gauge"),
        ("state_checkpoint_hits_total", "counter"),
        ("iteration_tokens_total", "histogram"),
        ("model_loaded", "gauge"),
        ("model_memory_bytes", "gauge"),
        ("adapters_loaded", "gauge"),
        ("worker_up", "gauge"),
        ("worker_connections", "gauge"),
        ("worker_requests_running", "gauge"),
        ("worker_http_requests_total", "counter"),
        ("worker_restarts_total", "counter"),
        ("key_requests_total", "counter"),
        ("key_tokens_total", "counter"),
        ("key_rejected_total", "counter"),
        ("key_queue_seconds", "summary"),
    ],
)
def test_a_series_is_announced_before_anything_happened(name: str, kind: str) -> None:
    assert f"# TYPE llmserve_{name} {kind}\n" in Metrics().render().decode()


@pytest.mark.parametrize(
    ("attribute", "name", "buckets"),
    [
        ("time_to_first_token", "time_to_first_token_seconds", TTFT),
        ("inter_token_latency", "inter_token_latency_seconds", ITL),
        ("e2e_latency", "e2e_request_latency_seconds", LATENCY),
        ("queue_time", "request_queue_time_seconds", LATENCY),
        ("prefill_time", "request_prefill_time_seconds", LATENCY),
        ("decode_time", "request_decode_time_seconds", LATENCY),
        ("iteration_tokens", "iteration_tokens_total", STEP),
    ],
)
def test_buckets_are_those_of_existing_dashboards(attribute: str, name: str, buckets: str) -> None:
    metrics = Metrics()
    getattr(metrics, attribute).labels("m").observe(0.0)
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}
    samples = families[f"llmserve_{name}"].samples
    found = [float(s.labels["le"]) for s in samples if s.name.endswith("_bucket")]
    assert found == [*map(float, buckets.split()), float("inf")]


def test_series_of_keys_and_workers_have_their_labels() -> None:
    metrics = Metrics()
    metrics.key_requests.labels("alice").inc()
    metrics.key_tokens.labels("alice", "prompt").inc(7)
    metrics.key_tokens.labels("alice", "completion").inc(3)
    metrics.key_rejected.labels("alice", "rate_limited").inc()
    metrics.key_queue.labels("alice").observe(0.5)
    metrics.worker_running.labels("0").set(2)
    metrics.worker_restarts.labels("hung").inc()
    lines = metrics.render().decode().splitlines()
    for line in (
        'llmserve_key_requests_total{key="alice"} 1.0',
        'llmserve_key_tokens_total{key="alice",kind="prompt"} 7.0',
        'llmserve_key_tokens_total{key="alice",kind="completion"} 3.0',
        'llmserve_key_rejected_total{key="alice",reason="rate_limited"} 1.0',
        'llmserve_key_queue_seconds_count{key="alice"} 1.0',
        'llmserve_key_queue_seconds_sum{key="alice"} 0.5',
        'llmserve_worker_requests_running{worker="0"} 2.0',
        'llmserve_worker_restarts_total{reason="hung"} 1.0',
    ):
        assert line in lines


def test_every_series_is_ours_and_every_model_has_its_own() -> None:
    metrics = Metrics()
    metrics.finished.labels("a", "stop").inc()
    metrics.finished.labels("b", "length").inc(2)
    families = list(text_string_to_metric_families(metrics.render().decode()))
    assert all(family.name.startswith("llmserve_") for family in families)
    assert all(family.documentation for family in families)
    (success,) = (f for f in families if f.name == "llmserve_request_success")
    counted = {
        (s.labels["model"], s.labels["finished_reason"]): s.value
        for s in success.samples
        if s.name.endswith("_total")
    }
    assert counted == {("a", "stop"): 1.0, ("b", "length"): 2.0}


def test_a_models_name_cannot_break_the_exposition() -> None:
    metrics = Metrics()
    name = 'a"b\\c\nd 中文'
    metrics.running.labels(name).set(1)
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}
    (sample,) = families["llmserve_num_requests_running"].samples
    assert (sample.labels["model"], sample.value) == (name, 1.0)
