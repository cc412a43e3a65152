from __future__ import annotations

import subprocess
import sys

from portway_proxy.metrics import CONNECTIONS_ACTIVE, FAMILIES, REPLIES, Counters, Kind


def test_each_sample_of_the_counters_has_the_labels_of_its_family() -> None:
    counters = Counters()
    counters.accepted_http += 2
    counters.accepted_https += 1
    counters.handshakes += 1
    counters.active += 3
    counters.replies["no_host"] += 4
    families = {family.name: family for family in FAMILIES}
    samples = list(counters.samples())
    assert all(len(sample.labels) == len(families[sample.name].labels) for sample in samples)
    assert REPLIES.sample(4, "no_host") in samples
    assert CONNECTIONS_ACTIVE.sample(3) in samples


def test_names_follow_prometheus_conventions() -> None:
    assert all(family.name.startswith("portway_") for family in FAMILIES)
    assert all(family.name.endswith("_total") == (family.kind is Kind.COUNTER) for family in FAMILIES)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_a_worker_loads_nothing_that_only_the_supervisor_needs() -> None:
    script = "import sys, portway_proxy.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"aiohttp", "prometheus_client", "cryptography", "kubernetes", "kopf", "yaml", "rich", "typer"}
    assert unwanted.isdisjoint(loaded)
