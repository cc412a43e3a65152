"""Whether a request may be sent once more, and how many of them may, so that an outage is not multiplied."""

from __future__ import annotations

import functools

from portway_proxy.snapshot import Retries

__all__ = ["Budget", "RetryRules", "rules"]

_RATE = 10.0  # Retries a second that are free, all workers together; Linkerd's minRetriesPerSecond.
_SPAN = 2.0  # Seconds of income that may be saved: one endpoint that dies under load needs them at once.


class Budget:
    """A bucket of retries that requests and time fill.

    It holds no more than two seconds bring at the pace since it was asked last: a quiet hour does not pay for a storm.
    """

    __slots__ = ("_asked", "_rate", "_requests", "_saved", "_share")

    def __init__(self, share: float, rate: float, requests: int, now: float) -> None:
        self._share = share
        self._rate = rate
        self._saved = rate * _SPAN
        self._asked = now
        self._requests = requests

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
    """What a policy says of retries, in the form in which it is asked."""

    __slots__ = ("_methods", "_share", "statuses", "timeout", "tries")

    def __init__(self, retries: Retries) -> None:
        self.tries = retries.tries
        self.timeout = retries.timeout
        # Whatever is below is no error, and goes to the client without a second look.
        self.statuses = frozenset(status for status in retries.statuses if status >= 400)
        self._methods = frozenset(method.encode() for method in retries.methods)
        self._share = retries.budget / 100

    def budget(self, workers: int, requests: int, now: float) -> Budget:
        """Return the budget of an upstream in one of as many workers, which had `requests` so far."""
        return Budget(self._share, _RATE / workers, requests, now)

    def repeatable(self, method: bytes, *, bodiless: bool) -> bool:
        """Return whether a request may be sent again although an endpoint may have acted on it."""
        return bodiless and method in self._methods


@functools.lru_cache(maxsize=256)
def rules(retries: Retries | None) -> RetryRules:
    """Return the rules of a policy, or the usual ones; upstreams with equal policies share them."""
    return RetryRules(retries or Retries())
