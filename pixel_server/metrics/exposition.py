"""The text of the metrics in the format of Prometheus. Only a scrape imports this module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pixel_server.metrics.families import TABLE, Family
from pixel_server.metrics.numbers import INFINITE, SUM, Values


def render(numbers: Mapping[str, Values]) -> bytes:
    """Returns the text of all metrics that have numbers. numbers: by name, see `numbers`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(cast(Any, _Source(numbers)))
    return generate_latest(registry)


class _Source:
    """Has the one method that a registry needs of a collector."""

    def __init__(self, numbers: Mapping[str, Values]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterable[Metric]:
        for family in TABLE:
            if values := self._numbers.get(family.name):
                yield _metric(family, values)


def _metric(family: Family, values: Values) -> Metric:
    name, text, labels = family.name.removesuffix("_total"), family.help, family.labels
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for label_values, buckets, total in _histograms(values):
            histogram.add_metric(label_values, buckets, total)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric: CounterMetricFamily | GaugeMetricFamily = kind(name, text, labels=labels)
    for key, value in values.items():
        metric.add_metric(key.split("|") if labels else (), value)
    return metric


def _histograms(values: Values) -> Iterator[tuple[list[str], list[tuple[str, float]], float]]:
    """Yields (values of the labels, cumulative buckets by upper bound, sum) of each histogram."""
    by_labels: dict[str, Values] = {}
    for key, value in values.items():
        labels, _, bucket = key.rpartition("|")
        by_labels.setdefault(labels, {})[bucket] = value
    for labels, buckets in by_labels.items():
        total = buckets.pop(SUM, 0.0)
        cumulative, count = [], 0.0
        for bound in sorted(buckets, key=lambda bound: float(bound.replace(INFINITE, "inf"))):
            count += buckets[bound]
            cumulative.append((bound, count))
        yield labels.split("|") if labels else [], cumulative, total
