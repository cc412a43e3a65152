"""How endpoints fare, as one worker sees it: by the requests that they fail, by checks, and by how long they are up.

Nothing here reads a clock; `now` is the worker's coarse one, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from portway_proxy.latency import Latency
from portway_proxy.snapshot import Check, Ejection

__all__ = ["GATEWAY_STATUSES", "Condition", "Health", "ramp", "too_many_out"]

GATEWAY_STATUSES = (502, 503, 504)
"""The statuses by which an endpoint says that it cannot serve; 500 is a fault of one request."""

_LONGEST = 300.0  # Seconds of an ejection, however often it happened; Envoy's max_ejection_time.
_VERDICT = 10.0  # Seconds until a probe that nobody heard of again is followed by another one.
_PATIENCE = 30.0  # Seconds in which only a request that may be repeated is the probe; then any is.
_LEAST_SHARE = 0.1  # Of an endpoint that began this moment: with nothing at all it would never warm up; Envoy 10 %.


class Condition(StrEnum):
    """What is known of an endpoint."""

    WELL = "well"
    EJECTED = "ejected"  # It failed requests and is left alone for a while.
    FAILING = "failing"  # Checks say that it is not well.


class Health:
    """How one endpoint fares. The methods return whether something changed that the choice depends on.

    `failures` counts requests that failed in a row. `until` is when an ejected endpoint is asked again by one request,
    the probe. `since` is when it became ready; minus infinity when it always was.
    """

    __slots__ = (
        "_returned",
        "_streak",
        "_times",
        "ejected",
        "failing",
        "failures",
        "latency",
        "probing",
        "since",
        "until",
    )

    def __init__(self, since: float) -> None:
        self.failures = 0
        self.latency = Latency()
        self.ejected = False
        self.failing = False
        self.probing = False
        self.until = 0.0
        self.since = since
        self._returned = float("-inf")
        self._times = 0
        self._streak = 0

    @property
    def condition(self) -> Condition:
        """What is known now; what checks say comes first."""
        if self.failing:
            return Condition.FAILING
        return Condition.EJECTED if self.ejected else Condition.WELL

    @property
    def out(self) -> bool:
        """Whether others are better."""
        return self.ejected or self.failing

    # --- requests

    def fail(self, ejection: Ejection, now: float) -> bool:
        """Note a request that failed."""
        self.failures += 1
        if self.ejected:
            if not self.probing:
                return False  # Only sent there because nothing better was left.
        elif not ejection.failures or self.failures < ejection.failures:
            return False
        self._eject(ejection.seconds, now)
        return True

    def succeed(self, now: float) -> bool:
        """Note a request that was answered; an ejected endpoint is back at once."""
        self.failures = 0
        if not self.ejected:
            return False
        self.ejected = self.probing = False
        self.since = self._returned = now
        return True

    def due(self, now: float) -> bool:
        """Return whether it is time for a probe."""
        return self.ejected and now >= self.until

    def probe(self, now: float) -> None:
        """Note that a probe is under way; when nothing is heard of it, another one is due some time later."""
        self.probing = True
        self.until = now + _VERDICT

    def takes_any(self, now: float) -> bool:
        """Return whether no request that may be repeated came for so long that any will do for the probe."""
        return now >= self.until + _PATIENCE

    def pardon(self) -> None:
        """Forget an ejection: ejecting was switched off."""
        self.failures = 0
        self.ejected = self.probing = False

    def _eject(self, seconds: float, now: float) -> None:
        # Well for longer than it was out: that is another story.
        soon = now - self._returned <= seconds * self._times
        self._times = self._times + 1 if self.ejected or soon else 1
        self.ejected = True
        self.probing = False
        self.until = now + min(seconds * self._times, _LONGEST)

    # --- checks

    def checked(self, check: Check, now: float, *, passed: bool) -> bool:
        """Note what a check found."""
        if passed is not self.failing:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < (check.passes if passed else check.failures):
            return False
        self._streak = 0
        self.failing = not passed
        if passed:
            self.since = now
        return True

    def unchecked(self) -> None:
        """Forget what checks found: there are none any more."""
        self._streak = 0
        self.failing = False


def too_many_out(healths: Sequence[Health], share: int) -> bool:
    """Return whether more than `share` percent are out, so that being out says little: then all are to be used."""
    return sum(health.out for health in healths) * 100 > share * len(healths)


def ramp(healths: Iterable[Health], slow_start: float, now: float) -> list[float] | None:
    """Return the weight of each endpoint, growing in a line over `slow_start` seconds; None when all have the same."""
    if not slow_start:
        return None
    weights = [min(max((now - health.since) / slow_start, _LEAST_SHARE), 1.0) for health in healths]
    return weights if any(weight != weights[0] for weight in weights) else None
