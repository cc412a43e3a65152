"""The operator's metrics, read off its parts when somebody asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from portway_operator.api_objects import ApiObjects
from portway_operator.compile import Compiled
from portway_operator.heartbeat import Heartbeat
from portway_operator.leader import Leader
from portway_operator.publish import Publisher
from portway_operator.sources.kube import KubeSource

__all__ = ["OperatorMetrics", "Parts"]

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Parts:
    """What is measured."""

    source: KubeSource
    publisher: Publisher
    leader: Leader
    heartbeat: Heartbeat
    api: ApiObjects


class OperatorMetrics:
    """The registry; `parts` are read when it is collected. All names begin with `portway_operator_`."""

    def __init__(self, parts: Parts) -> None:
        self.registry = CollectorRegistry()
        self._parts = parts
        self._compiled: Compiled | None = None
        self._compile = Histogram(
            "portway_operator_compile_seconds",
            "How long it took to compile all objects.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._review = Histogram(
            "portway_operator_admission_seconds",
            "How long it took to review an Ingress before it was stored.",
            ["allowed"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.registry.register(self)

    def compiled(self, compiled: Compiled, seconds: float) -> None:
        """Take note of a compile."""
        self._compiled = compiled
        self._compile.observe(seconds)

    def reviewed(self, seconds: float, allowed: bool) -> None:  # noqa: FBT001 - the webhook calls it
        """Take note of an admission review."""
        self._review.labels(str(allowed).lower()).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield everything but the histograms, for prometheus_client."""
        yield from self._of_source()
        yield from self._of_snapshot()
        yield from self._of_proxies()
        yield from self._of_process()

    def _of_source(self) -> Iterator[Metric]:
        source = self._parts.source
        counters = source.counters
        yield _gauges("objects", "Objects that are known.", "kind", source.objects())
        yield _counters("events", "Changes that watches told.", "kind", counters.events)
        yield _counters("lists", "Full lists of a kind.", "kind", counters.lists)
        yield _counters("watches", "Watches that were opened; the first and each restart.", "kind", counters.watches)
        yield _counters("corrections", "Objects that a list, and no watch, taught us.", "kind", counters.corrections)
        yield _counters("malformed", "Versions of objects that could not be read.", "kind", counters.malformed)
        yield _counter("kopf_restarts", "How often kopf ended and was started again.", counters.restarts)
        errors = CounterMetricFamily(
            "portway_operator_api_errors", "Requests that the API server refused or did not answer.", labels=["code"]
        )
        codes: Counter[str] = Counter(self._parts.api.errors)
        for (_, code), number in counters.refusals.items():
            codes[code] += number
        for code, number in sorted(codes.items()):
            errors.add_metric([code], number)
        yield errors
        yield _counters("writes", "Objects that were created or changed.", "resource", self._parts.api.written)

    def _of_snapshot(self) -> Iterator[Metric]:
        yield _gauge("generation", "The newest version that was published.", self._parts.publisher.version)
        if self._compiled is None:
            return
        snapshot = self._compiled.snapshot
        parts = {
            "hosts": len(snapshot.hosts),
            "routes": sum(len(host.routes) for host in snapshot.hosts),
            "upstreams": len(snapshot.upstreams),
            "endpoints": sum(len(upstream.endpoints) for upstream in snapshot.upstreams),
            "listeners": len(snapshot.listeners),
            "certificates": len(snapshot.certificates),
        }
        yield _gauges("snapshot_parts", "The size of the snapshot.", "part", parts)
        problems = GaugeMetricFamily(
            "portway_operator_problems", "What is wrong with objects now.", labels=["code", "severity"]
        )
        for (code, severity), number in Counter((each.code, each.severity) for each in snapshot.problems).items():
            problems.add_metric([code, str(severity)], number)
        yield problems
        expiry = {each.name: each.not_after for each in snapshot.certificates}
        yield _gauges("certificate_expiry_timestamp_seconds", "When a certificate expires.", "certificate", expiry)

    def _of_proxies(self) -> Iterator[Metric]:
        publisher = self._parts.publisher
        proxies = publisher.proxies.values()
        versions = {proxy.node: proxy.version for proxy in proxies}
        yield _gauges("proxy_generation", "The version that a proxy serves; 0 for none of ours.", "proxy", versions)
        lags = {proxy.node: publisher.lag(proxy) for proxy in proxies if publisher.version}
        yield _gauges("proxy_lag_seconds", "For how long there has been something newer.", "proxy", lags)
        took = {proxy.node: proxy.took_ms / 1000 for proxy in proxies}
        yield _gauges("proxy_apply_seconds", "How long a proxy's last change took.", "proxy", took)
        yield _gauge("proxies", "Proxies that follow this replica.", publisher.subscriptions)
        counts = publisher.counts
        yield _counter("rejections", "Versions that a proxy could not apply.", counts.rejections)
        yield _counter("streams", "Streams that proxies opened.", counts.streams)
        yield _counter("snapshots_sent", "Whole snapshots that were sent.", counts.snapshots)
        yield _counter("deltas", "Versions that were published as deltas.", counts.deltas)
        yield _counter("resyncs", "How often a proxy was too slow for deltas.", counts.resyncs)

    def _of_process(self) -> Iterator[Metric]:
        parts = self._parts
        yield _gauge("leader", "Whether this replica writes.", int(parts.leader.leading))
        heart = parts.heartbeat
        yield _gauge("loop_lag_seconds", "The event loop's greatest lateness in the last minute.", heart.lag)
        yield _gauge("loop_busy_seconds", "The greatest part of a lateness that was the loop's own work.", heart.busy)
        age = time.monotonic() - parts.source.heartbeat
        yield _gauge("kopf_heartbeat_age_seconds", "The time since kopf's last sign of life.", age)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"portway_operator_{name}", what, value=value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"portway_operator_{name}", what, value=value)


def _gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    return _filled(GaugeMetricFamily(f"portway_operator_{name}", what, labels=[label]), values.items())


def _counters(name: str, what: str, label: str, values: Mapping[str, int]) -> Metric:
    return _filled(CounterMetricFamily(f"portway_operator_{name}", what, labels=[label]), values.items())


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, float]]
) -> GaugeMetricFamily | CounterMetricFamily:
    for label, value in sorted(values):
        family.add_metric([label], value)
    return family
