"""One collection followed for ever: a full list, then a watch from its version, and again when the watch is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp
import msgspec

from portway_operator.sources.backoff import Backoff
from portway_operator.sources.connection import Connection
from portway_operator.sources.ledger import Ledger
from portway_operator.sources.listing import (
    ApiRefused,
    Item,
    Listing,
    Versions,
    fetch,
    fetch_versions,
    refusal,
)
from portway_operator.sources.resources import Target
from portway_operator.sources.watch import Broken

__all__ = ["Deleted", "Listed", "Message", "Opened", "Refused", "Report", "Seen", "Stream"]

# The server ends a watch after this long, so that connections move to new API servers; it resumes without a list.
_WATCH_SECONDS = 300
_CONNECT_SECONDS = 5.0
_BRIEF_SECONDS = 1.0
# The statuses that say nothing about the version that was asked for.
_VERSION_STANDS = frozenset({401, 403, 429})


@dataclass(frozen=True, slots=True)
class Listed:
    """A collection was listed; `mark` is the highest version that was known before."""

    target: Target
    listing: Listing
    mark: int


@dataclass(frozen=True, slots=True)
class Seen:
    """An object was added or changed."""

    target: Target
    item: Item


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object is gone; the item's version is that of the deletion."""

    target: Target
    item: Item


@dataclass(frozen=True, slots=True)
class Opened:
    """A watch was opened."""

    target: Target


@dataclass(frozen=True, slots=True)
class Refused:
    """The API server did not do as asked; `code` is its status or the kind of failure, `reason` a sentence."""

    target: Target
    code: str
    reason: str


Message: TypeAlias = Listed | Seen | Deleted | Opened | Refused
Report: TypeAlias = Callable[[Message], None]
"""Takes a message, from any thread."""


class Stream:
    """The list and the watch of one target, whoever reads the watch.

    Of the ledger its own thread reads only `highest`: a value that lags behind is as good. `check` belongs into the
    ledger's thread.
    """

    __slots__ = (
        "_backoff", "_broken", "_connection", "_ledger", "_listed", "_opened", "_relists", "_report", "asked", "target",
    )  # fmt: skip

    def __init__(self, target: Target, connection: Connection, ledger: Ledger, report: Report) -> None:
        self.target = target
        self.asked = time.monotonic()
        self._connection = connection
        self._ledger = ledger
        self._report = report
        self._backoff = Backoff()
        self._relists: Backoff | None = None
        self._broken = False
        self._listed: str | None = None
        self._opened = -_BRIEF_SECONDS

    async def open(self, session: aiohttp.ClientSession, since: str | None) -> aiohttp.ClientResponse:
        """Return an open watch from the version `since`, or of the last list without one; it never gives up.

        Before the first watch there is a list. A watch that the server refuses starts over with one, whatever the
        reason: 410 (the version is too old) and 504 (it is too new, after a restore from a backup) would be refused
        for ever. So does one after `start_over`.
        """
        since = since or self._listed
        if self._broken:
            self._broken, since = False, None
        if time.monotonic() - self._opened < _BRIEF_SECONDS:
            # A server, or what lies before it, that ends every watch at once must not be asked without pause.
            await asyncio.sleep(self._backoff.next())
        while True:
            self.asked = time.monotonic()
            try:
                if since is None:
                    since = await self._list(session)
                return await self._watch(session, since)
            except ApiRefused as error:
                since = since if error.status in _VERSION_STANDS else None
                await self._pause(str(error.status), str(error), error.retry_after)
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
                await self._pause(type(error).__name__, str(error) or type(error).__name__)

    async def list_once(self, session: aiohttp.ClientSession) -> Listing:
        """List the target now, report it and return it; raises what `listing.fetch` raises."""
        mark = self._ledger.highest
        listing = await fetch(session, self._connection, self.target)
        self._listed = listing.since
        self._report(Listed(self.target, listing, mark))
        return listing

    async def check(self, session: aiohttp.ClientSession, grace: float) -> None:
        """List the target if the versions of its objects are not those that are known, nor become so within `grace`.

        Raises what `listing.fetch` raises.
        """
        found = await fetch_versions(session, self._connection, self.target, self._ledger.highest)
        if not self._is_known(found):
            await asyncio.sleep(grace)
            if not self._is_known(found):
                await self.list_once(session)

    def _is_known(self, found: Versions) -> bool:
        numbers = {name: version for name, version in found.items.items() if version is not None}
        if found.version is None or len(numbers) < len(found.items):
            return False
        return not self._ledger.lacks(found.version, numbers)

    def seen(self, item: Item) -> None:
        """Report an object that the watch added or changed."""
        self._report(Seen(self.target, item))

    def deleted(self, item: Item) -> None:
        """Report an object that the watch says is gone."""
        self._report(Deleted(self.target, item))

    def start_over(self, error: Broken) -> None:
        """Let the next watch begin with a list, whatever version is asked for, and report why."""
        self._broken = True
        self._report(Refused(self.target, error.code, str(error)))

    async def _list(self, session: aiohttp.ClientSession) -> str:
        # Nor one that refuses every version that it told itself.
        if self._relists is None:
            self._relists = Backoff()
        else:
            await asyncio.sleep(self._relists.next())
        return (await self.list_once(session)).since

    async def _watch(self, session: aiohttp.ClientSession, since: str) -> aiohttp.ClientResponse:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since}
        query["timeoutSeconds"] = str(_WATCH_SECONDS)
        if self.target.selector:
            query["fieldSelector"] = self.target.selector
        response = await session.get(
            self._connection.url(self.target.path),
            params=query,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        )
        if response.status != 200:
            raise await refusal(response)
        self._opened = time.monotonic()
        self._report(Opened(self.target))
        return response

    async def _pause(self, code: str, reason: str, least: float = 0.0) -> None:
        self._report(Refused(self.target, code, reason))
        await asyncio.sleep(self._backoff.next(least))
