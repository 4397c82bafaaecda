"""Renders series as Prometheus's text format, for one process or for all workers together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from llmserve.observability.gpu import GPUCollector
from llmserve.observability.vllm_names import VLLMNames


class Exposition:
    """Renders `source`, which is a registry or the files of all workers."""

    def __init__(self, source: Collector, compat: Literal["none", "vllm"]) -> None:
        self._source = source
        self._compat = compat
        self._gpus = GPUCollector()

    def render(self) -> bytes:
        """The text; blocks on files and on the GPU driver."""
        # Collected once, so that both sets of names show the same values.
        collected = _registry_of(_Collected(list(self._source.collect())))
        text = generate_latest(collected)
        if self._compat == "vllm":
            text += generate_latest(_registry_of(VLLMNames(collected)))
        return text + generate_latest(_registry_of(self._gpus))


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _registry_of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
