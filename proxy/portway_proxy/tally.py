"""What an upstream counts beside its requests: connects, retries, ejections and checks."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from portway_proxy.l7.pool import Pool
from portway_proxy.metrics import (
    CHECKS,
    EJECTIONS,
    ENDPOINTS_OUT,
    RETRIES,
    RETRIES_REFUSED,
    UPSTREAM_CONNECTS,
    Sample,
)

__all__ = ["Tally"]


class Tally:
    """Plain numbers; of endpoints that are gone too, because a counter never falls.

    `retries` are by cause. `refused` retries were not in the budget. Of the endpoints that are gone, those that were
    still busy when the last one went are `leaving`.
    """

    __slots__ = (
        "_connected",
        "_failed",
        "checks_failed",
        "checks_passed",
        "ejections",
        "leaving",
        "refused",
        "retries",
    )

    def __init__(self) -> None:
        self.ejections = 0
        self.refused = 0
        self.checks_passed = 0
        self.checks_failed = 0
        self.retries: dict[str, int] = {}
        self.leaving: tuple[Pool, ...] = ()
        self._connected = 0
        self._failed = 0

    @property
    def quiet(self) -> bool:
        """Whether nothing was counted."""
        return not (self.ejections or self.checks_passed or self.checks_failed or self._connected or self._failed)

    def repeat(self, cause: str) -> None:
        """Count a request that is sent once more."""
        self.retries[cause] = self.retries.get(cause, 0) + 1

    def retire(self, pool: Pool) -> None:
        """Keep what the pool of an endpoint that is gone had counted."""
        self._connected += pool.connected
        self._failed += pool.failed
        self.leaving = tuple(one for one in (*self.leaving, pool) if one.load)

    def samples(self, name: str, pools: Collection[Pool]) -> Iterator[Sample]:
        """Return a sample for each count of the upstream `name`, whose endpoints have these pools."""
        connected = self._connected + sum(pool.connected for pool in pools)
        failed = self._failed + sum(pool.failed for pool in pools)
        if connected or failed:
            yield UPSTREAM_CONNECTS.sample(connected, name, "connected")
            yield UPSTREAM_CONNECTS.sample(failed, name, "failed")
        for cause, count in self.retries.items():
            yield RETRIES.sample(count, name, cause)
        if self.refused:
            yield RETRIES_REFUSED.sample(self.refused, name)
        if self.ejections:
            yield EJECTIONS.sample(self.ejections, name)
            yield ENDPOINTS_OUT.sample(sum(pool.health.ejected for pool in pools), name, "ejected")
        if self.checks_passed or self.checks_failed:
            yield CHECKS.sample(self.checks_passed, name, "passed")
            yield CHECKS.sample(self.checks_failed, name, "failed")
            yield ENDPOINTS_OUT.sample(sum(pool.health.failing for pool in pools), name, "failing")
