from __future__ import annotations

from portway_proxy.metrics import CHECKS, EJECTIONS, ENDPOINTS_OUT, FAMILIES, RETRIES, RETRIES_REFUSED
from portway_proxy.metrics import UPSTREAM_CONNECTS as CONNECTS
from portway_proxy.snapshot import Check, Ejection, Endpoint, Upstream
from portway_proxy.tally import Tally
from portway_proxy.upstreams import LiveUpstream

WEB = "shop/web:80"
A, B = (Endpoint(f"10.0.0.{number}", 80) for number in (1, 2))


def test_what_never_happened_is_not_counted() -> None:
    assert list(Tally().samples(WEB, LiveUpstream(Upstream(WEB, endpoints=(A,))).pools)) == []


def test_everything_that_happened_is_a_sample_of_a_known_family() -> None:
    a, b = LiveUpstream(Upstream(WEB, endpoints=(A, B))).pools
    tally = Tally()
    a.connected, a.failed, b.connected = 3, 1, 2
    tally.retire(b)
    tally.repeat("reset")
    tally.repeat("reset")
    tally.repeat("stale")
    tally.refused, tally.ejections, tally.checks_passed, tally.checks_failed = 4, 5, 6, 7
    a.health.fail(Ejection(failures=1), 0.0)
    a.health.checked(Check(failures=1), 0.0, passed=False)
    found = list(tally.samples(WEB, [a]))
    assert found == [
        CONNECTS.sample(5, WEB, "connected"),
        CONNECTS.sample(1, WEB, "failed"),
        RETRIES.sample(2, WEB, "reset"),
        RETRIES.sample(1, WEB, "stale"),
        RETRIES_REFUSED.sample(4, WEB),
        EJECTIONS.sample(5, WEB),
        ENDPOINTS_OUT.sample(1, WEB, "ejected"),
        CHECKS.sample(6, WEB, "passed"),
        CHECKS.sample(7, WEB, "failed"),
        ENDPOINTS_OUT.sample(1, WEB, "failing"),
    ]
    assert {sample.name for sample in found} <= {family.name for family in FAMILIES}
