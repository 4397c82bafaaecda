"""From summed values to the families that Prometheus's text is made of."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

Labels = tuple[tuple[str, str], ...]


def families(values: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterable[Metric]:
    """One family per series; `values` are by kind and by prometheus_client's key.

    Of a `gauge_livemax` the largest counts. All others are summed exactly and rounded once, so that
    a sum never depends on its order and never falls while its parts rise.
    """
    for kind, keys in values.items():
        merged = max if kind == "gauge_livemax" else math.fsum
        found: dict[str, Metric] = {}
        for key, parts in sorted(keys.items()):
            family, name, labels, text = json.loads(key)
            metric = found.setdefault(family, Metric(family, text, kind.partition("_")[0]))
            metric.samples.append(Sample(name, labels, merged(parts)))
        for metric in found.values():
            if kind == "histogram":
                metric.samples = _cumulated(metric.name, metric.samples)
            yield metric


def _cumulated(name: str, samples: Sequence[Sample]) -> list[Sample]:
    """The files count each bucket for itself and have no count of all."""
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
    # A worker that is making a series has its sum before it has the buckets.
    return cumulated + [sample for group in others.values() for sample in group]
