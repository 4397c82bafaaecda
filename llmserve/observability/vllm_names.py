"""Our series under vLLM's names, for dashboards and autoscalers that use those."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

OURS: Final = "llmserve_"
THEIRS: Final = "vllm:"
SHARED: Final = frozenset(
    OURS + name
    for name in (
        "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
        "prefix_cache_queries", "prefix_cache_hits", "num_preemptions", "prompt_tokens",
        "generation_tokens", "request_success", "time_to_first_token_seconds",
        "inter_token_latency_seconds", "e2e_request_latency_seconds",
        "request_queue_time_seconds", "request_prefill_time_seconds",
        "request_decode_time_seconds", "iteration_tokens_total",
    )
)  # fmt: skip
"""Names of families in prometheus_client's form: a counter's without `_total`."""


class VLLMNames(Collector):
    """Collects those families of another registry that vLLM has as well, renamed.

    vLLM's labels are `model_name` and `engine`; ours is only `model`, and `engine` is always 0.
    """

    def __init__(self, source: CollectorRegistry) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """The renamed families."""
        for family in self._source.collect():
            if family.name in SHARED:
                renamed = Metric(_renamed(family.name), family.documentation, family.type)
                renamed.samples = [_sample(sample) for sample in family.samples]
                yield renamed


def _renamed(name: str) -> str:
    return THEIRS + name.removeprefix(OURS)


def _sample(sample: Sample) -> Sample:
    labels = {("model_name" if k == "model" else k): v for k, v in sample.labels.items()}
    return sample._replace(name=_renamed(sample.name), labels=labels | {"engine": "0"})
