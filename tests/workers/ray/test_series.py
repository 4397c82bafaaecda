"""The series of several replicas in one text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from llmserve.observability.metrics import Metrics
from llmserve.workers.ray.series import merged_series


def test_each_sample_says_whose_it_is_and_each_family_comes_once() -> None:
    texts = {}
    for name, count in (("one", 1), ("two", 2)):
        metrics = Metrics()
        metrics.http_requests.labels("GET", "/", "200").inc(count)
        metrics.loop_lag.observe(0.5)
        texts[name] = metrics.render().decode()
    merged = merged_series(texts)
    families = list(text_string_to_metric_families(merged))
    assert len({family.name for family in families}) == len(families)
    counts = {
        sample.labels["replica"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "llmserve_http_requests_total"
    }
    assert counts == {"one": 1, "two": 2}
    whole = {f.name: len(f.samples) for f in text_string_to_metric_families(texts["one"])}
    assert {f.name: len(f.samples) for f in families}.keys() == whole.keys()
