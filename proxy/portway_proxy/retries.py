"""Whether a request may be sent once more, and how many of them may, so that an outage is not multiplied."""

from __future__ import annotations

from portway_proxy.snapshot import Retries

__all__ = ["Budget", "RetryRules"]

_RATE = 10.0  # Retries a second that are free, all workers together; Linkerd's minRetriesPerSecond.
_SPAN = 2.0  # Seconds of income that may be saved: one endpoint that dies under load needs them at once.


class Budget:
    """A bucket of retries that requests and time fill.

    It holds no more than two seconds bring at the pace since it was asked last: a quiet hour does not pay for a storm.
    """

    __slots__ = ("_asked", "_rate", "_requests", "_saved", "_share")

    def __init__(self, share: float, rate: float, now: float) -> None:
        self._share = share
        self._rate = rate
        self._saved = rate * _SPAN
        self._asked = now
        self._requests = 0

    def take(self, requests: int, now: float) -> bool:
        """Return whether one more retry may be; `requests` is how many there were ever, `now` the coarse time."""
        elapsed = now - self._asked
        earned = (requests - self._requests) * self._share + elapsed * self._rate
        self._saved += earned
        self._asked, self._requests = now, requests
        if elapsed > 0:  # Within one tick there is no pace to tell.
            self._saved = min(self._saved, earned / elapsed * _SPAN)
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


class RetryRules:
    """The rules of one upstream, in the form in which they are asked."""

    __slots__ = ("_methods", "budget", "statuses", "timeout", "tries")

    def __init__(self, retries: Retries, workers: int, now: float) -> None:
        self.tries = retries.tries
        self.timeout = retries.timeout
        self.statuses = frozenset(retries.statuses)
        self._methods = frozenset(method.encode() for method in retries.methods)
        self.budget = Budget(retries.budget / 100, _RATE / workers, now)

    def repeatable(self, method: bytes, *, bodiless: bool) -> bool:
        """Return whether a request may be sent again although an endpoint may have acted on it."""
        return bodiless and method in self._methods
