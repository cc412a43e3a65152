"""Elects the one replica that writes, by a Lease. Whoever leads not still watches, compiles and serves.

The rules are client-go's. Expiry is told by our own monotonic clock since the Lease was last seen to change, never by
the times that are written in it: clocks of machines differ. A leader that cannot renew stops to write a third of the
term before anyone else may begin.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from portway_operator.api_objects import ApiUnavailable
from portway_operator.leases import Lease, LeaseTaken

__all__ = ["Leader", "Leases", "Terms"]

_log = logging.getLogger(__name__)


class Leases(Protocol):
    """Where the Lease is kept; see `leases.LeaseApi`."""

    async def get(self) -> Lease | None:
        """Return the Lease as it is now, or None."""

    async def create(self, lease: Lease) -> Lease:
        """Create the Lease; return it as it is now."""

    async def replace(self, lease: Lease) -> Lease:
        """Replace the version that `lease` was made of; return it as it is now."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long who leads, in seconds.

    lease: after the last renewal, others wait so long (client-go 15).
    renew: a leader that could not renew for so long leads no more; less than `lease` (client-go 10).
    retry: between two attempts, give or take a fifth, so that replicas do not come in step (client-go 2).
    request: until an attempt is given up; twice fits into `renew`.
    """

    lease: int = 15
    renew: float = 10.0
    retry: float = 2.0
    request: float = 3.0


class Leader:
    """Takes part in the election as `identity`, which no other replica has and no other run of this one had.

    `on_change` is called when leadership was won, and when its loss was noticed; ask `leading` before each write.
    """

    def __init__(
        self,
        leases: Leases,
        identity: str,
        on_change: Callable[[], None] = lambda: None,
        terms: Terms = Terms(),
    ) -> None:
        self.identity = identity
        self._leases = leases
        self._on_change = on_change
        self._terms = terms
        self._seen: Lease | None = None
        # The loop's time when the Lease was last seen to change, and when our last renewal was asked for.
        self._changed = self._renewed = -inf
        self._told = False
        self._trouble = ""

    @property
    def leading(self) -> bool:
        """Return whether we lead at this very moment."""
        return self._ours and asyncio.get_running_loop().time() < self._renewed + self._terms.renew

    @property
    def holder(self) -> str:
        """Return who held the Lease when it was last seen; empty for nobody."""
        return "" if self._seen is None else self._seen.holder

    async def run(self) -> None:
        """Take part until cancelled; whatever fails is tried again."""
        while True:
            await self._attempt()
            await asyncio.sleep(self._terms.retry * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret

    async def release(self) -> None:
        """Give the Lease back, if it is ours, so that another can take it at once; call it when `run` has ended."""
        self._renewed = -inf
        if not self._ours:
            return
        try:
            async with asyncio.timeout(self._terms.request):
                # Looked at first: a renewal whose answer never came may have changed its version.
                self._seen = await self._leases.get()
                if self._seen is not None and self._ours:
                    self._seen = await self._leases.replace(self._seen.released())
        except (ApiUnavailable, LeaseTaken, TimeoutError) as error:
            _log.info("the Lease could not be given back and has to expire: %s", _reason(error))
        self._tell()

    @property
    def _ours(self) -> bool:
        return self._seen is not None and self._seen.holder == self.identity

    async def _attempt(self) -> None:
        try:
            async with asyncio.timeout(self._terms.request):
                await self._renew_or_take()
        except (ApiUnavailable, TimeoutError) as error:
            # Once, not every two seconds.
            if not self._trouble:
                _log.warning("the Lease can be neither read nor written: %s", _reason(error))
            self._trouble = _reason(error)
        except LeaseTaken:
            # Another was faster; what it wrote is read the next time.
            self._trouble = ""
        else:
            self._trouble = ""
        self._tell()

    async def _renew_or_take(self) -> None:
        asked = asyncio.get_running_loop().time()
        if self.leading and await self._renewed_unread(asked):
            return
        lease = await self._leases.get()
        if lease is None:
            self._take(await self._leases.create(Lease().held(self.identity, self._terms.lease)), asked)
            return
        self._observe(lease)
        if lease.holder in ("", self.identity) or self._expired(lease):
            self._take(await self._leases.replace(lease.held(self.identity, self._terms.lease)), asked)

    async def _renewed_unread(self, asked: float) -> bool:
        """Renew without a look first, as nobody else should have written; return whether that was so."""
        if self._seen is None:
            return False
        try:
            self._take(await self._leases.replace(self._seen.held(self.identity, self._terms.lease)), asked)
        except LeaseTaken:
            return False
        return True

    def _observe(self, lease: Lease) -> None:
        if self._seen is None or lease != self._seen:
            self._changed = asyncio.get_running_loop().time()
        self._seen = lease

    def _expired(self, lease: Lease) -> bool:
        return asyncio.get_running_loop().time() >= self._changed + lease.seconds

    def _take(self, lease: Lease, asked: float) -> None:
        self._observe(lease)
        if self._ours:
            # From before the request: how long it was under way does not lengthen the term.
            self._renewed = asked

    def _tell(self) -> None:
        leading = self.leading
        if leading == self._told:
            return
        self._told = leading
        if leading:
            _log.info("this replica leads: it writes statuses and Events")
        else:
            _log.info("this replica leads no more, and writes nothing; it serves on")
        self._on_change()


def _reason(error: Exception) -> str:
    return str(error) or "no answer in time"
