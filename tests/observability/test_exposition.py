"""The text of one process or of all; the rooms of series have tests of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from llmserve.observability.exposition import Exposition


class CountingRegistry(CollectorRegistry):
    """Whoever looks moves the counter."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = Counter("llmserve_prompt_tokens", "Text.", ("model",), registry=self)

    def collect(self):  # type: ignore[no-untyped-def]
        self.looked.labels("m").inc()
        return list(super().collect())


def test_both_vocabularies_tell_of_the_same_moment() -> None:
    lines = Exposition(CountingRegistry(), "vllm").render().decode().splitlines()
    assert 'llmserve_prompt_tokens_total{model="m"} 1.0' in lines
    assert 'vllm:prompt_tokens_total{engine="0",model_name="m"} 1.0' in lines
