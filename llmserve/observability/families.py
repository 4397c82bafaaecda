"""Merges the values of several processes into Prometheus's metric families."""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

Labels = tuple[tuple[str, str], ...]
TYPES: Final = frozenset({"counter", "gauge", "histogram", "summary"})


def families(values: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterable[Metric]:
    """One family per series; `values` are by kind and by prometheus_client's key.

    For a `gauge_livemax` the largest value is taken. All others are summed exactly and rounded
    once, so that a sum does not depend on the order and never falls while its parts rise.
    """
    for kind, keys in values.items():
        merged = max if kind == "gauge_livemax" else exact_sum
        found: dict[str, Metric] = {}
        for key, parts in sorted(keys.items()):
            family, name, labels, text = json.loads(key)
            metric = found.setdefault(family, Metric(family, text, _type(kind)))
            metric.samples.append(Sample(name, labels, merged(parts)))
        for metric in found.values():
            if kind == "histogram":
                metric.samples = _cumulated(metric.name, metric.samples)
            yield metric


def exact_sum(parts: Iterable[float]) -> float:
    """The sum, rounded once; NaN if the parts have none."""
    try:
        return math.fsum(parts)
    except (OverflowError, ValueError):  # too large; infinities of both signs
        return math.nan


@functools.lru_cache(maxsize=2**14)
def check_key(kind: str, key: str) -> None:
    """Check that a key can be made into a series and rendered.

    Raises:
        ValueError: it cannot.
    """
    if _type(kind) not in TYPES:
        raise ValueError(f"{kind!r} is not a kind of series")
    try:
        family, name, labels, text = json.loads(key)
        Metric(family, text, _type(kind))
        float(labels.get("le", 0))
        "".join((family, name, text, *labels, *labels.values())).encode()
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{key[:100]!r} is not the key of a series") from error


def _type(kind: str) -> str:
    return kind.partition("_")[0]


def _cumulated(name: str, samples: Sequence[Sample]) -> list[Sample]:
    """Samples with cumulative buckets and a `_count`: the files have neither."""
    buckets: dict[Labels, list[Sample]] = defaultdict(list)
    others: dict[Labels, list[Sample]] = defaultdict(list)
    for sample in samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        (buckets if "le" in sample.labels else others)[labels].append(sample)
    cumulated: list[Sample] = []
    for labels, group in buckets.items():
        count = 0.0
        for bucket in sorted(group, key=lambda s: float(s.labels["le"])):
            count += bucket.value
            cumulated.append(bucket._replace(value=count))
        cumulated.append(Sample(name + "_count", dict(labels), count))
        cumulated.extend(others.pop(labels, ()))
    # A worker that is just creating a series writes its sum before its buckets.
    return cumulated + [sample for group in others.values() for sample in group]
