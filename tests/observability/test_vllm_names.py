"""vLLM's names beside ours: same values, its labels."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from llmserve.observability.metrics import Metrics
from llmserve.observability.vllm_names import SHARED


def test_only_who_asks_gets_them() -> None:
    assert b"vllm:" not in Metrics().render()


def test_every_shared_series_is_there_under_both_names() -> None:
    metrics = Metrics(compat="vllm")
    metrics.running.labels("m").set(3)
    metrics.waiting.labels("m").set(2)
    metrics.kv_cache_usage.labels("m").set(0.5)
    metrics.finished.labels("m", "stop").inc(7)
    metrics.generation_tokens.labels("m").inc(11)
    metrics.preemptions.labels("m")
    metrics.prefix_cache_hits.labels("m").inc(4)
    metrics.time_to_first_token.labels("m").observe(0.07)
    metrics.iteration_tokens.labels("m").observe(5)
    lines = metrics.render().decode().splitlines()
    for expected in (
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0',
        'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5',
        'vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 7.0',
        'vllm:generation_tokens_total{engine="0",model_name="m"} 11.0',
        'vllm:num_preemptions_total{engine="0",model_name="m"} 0.0',
        'vllm:prefix_cache_hits_total{engine="0",model_name="m"} 4.0',
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.08",model_name="m"} 1.0',
        'vllm:iteration_tokens_total_count{engine="0",model_name="m"} 1.0',
    ):
        assert expected in lines
    assert 'llmserve_num_requests_running{model="m"} 3.0' in lines


def test_each_name_that_is_shared_is_one_of_ours() -> None:
    ours = {family.name for family in Metrics()._registry.collect()}
    assert ours >= SHARED


def test_both_vocabularies_are_announced_and_can_be_read() -> None:
    text = Metrics(compat="vllm").render().decode()
    families = [family.name for family in text_string_to_metric_families(text)]
    assert len(families) == len(set(families))
    for name in SHARED:
        assert {name, "vllm:" + name.removeprefix("llmserve_")} <= set(families)
