"""The samples of all workers as one exposition: added up, never falling when a worker dies, rendered for a scrape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from portway_proxy.metrics import FAMILIES, Kind, Sample

__all__ = ["CONTENT_TYPE", "Totals", "render"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Series: TypeAlias = tuple[str, tuple[str, ...]]

_COUNTERS: Final = frozenset(family.name for family in FAMILIES if family.kind is Kind.COUNTER)


class Totals:
    """The last samples of each worker, and what the counters of those that died had reached."""

    def __init__(self) -> None:
        self._last: dict[int, list[Sample]] = {}
        self._past: defaultdict[_Series, float] = defaultdict(float)

    def report(self, worker: int, samples: list[Sample]) -> None:
        """Take the samples of the living `worker` (its process id) in the place of its earlier ones."""
        self._last[worker] = samples

    def retire(self, worker: int) -> None:
        """Keep what the counters of `worker` had reached; its gauges end with it."""
        for sample in self._last.pop(worker, ()):
            if sample.name in _COUNTERS:
                self._past[sample.name, sample.labels] += sample.value

    def samples(self) -> list[Sample]:
        """Return the sums over all workers, one sample for each series."""
        sums = self._past.copy()
        for samples in self._last.values():
            for sample in samples:
                sums[sample.name, sample.labels] += sample.value
        return [Sample(name, labels, value) for (name, labels), value in sums.items()]


def render(samples: Iterable[Sample]) -> bytes:
    """Return the samples in Prometheus' text format, with HELP and TYPE of every family.

    Raises `KeyError` for a sample of no known family.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(samples))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, samples: Iterable[Sample]) -> None:
        self._families: dict[str, Metric] = {}
        for family in FAMILIES:
            shape = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
            self._families[family.name] = shape(family.name, family.doc, labels=family.labels)
        for sample in samples:
            metric = self._families[sample.name]
            assert isinstance(metric, CounterMetricFamily | GaugeMetricFamily)  # noqa: S101 - tells the type
            metric.add_metric(sample.labels, sample.value)

    def collect(self) -> Iterator[Metric]:
        """Return the families in the order of their table."""
        return iter(self._families.values())
