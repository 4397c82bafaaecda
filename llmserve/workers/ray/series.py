"""The series of all replicas in one text: each sample says whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

LABEL: Final = "replica"


def merged_series(texts: Mapping[str, str]) -> str:
    """The exposition text of all replicas, from the text of each by its name. Counts are not added
    up, so that they fall to zero for no series when a replica is replaced."""
    registry = CollectorRegistry()
    registry.register(_Families(texts))
    return generate_latest(registry).decode()


class _Families(Collector):
    """The families of several texts, each family once."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, text in sorted(self._texts.items()):
            for family in _parsed(text):
                known = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    known.samples.append(sample._replace(labels={**sample.labels, LABEL: replica}))
        yield from families.values()


def _parsed(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = text_string_to_metric_families(text)
    return families
