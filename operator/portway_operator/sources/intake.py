"""Takes what the streams say into the store, newest version first, and tells what changed. Main loop only."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from portway_operator.decode.writers import NOBODY, LastWriters, Writer
from portway_operator.objects import Kind, Object
from portway_operator.sources.ledger import Ledger, Name
from portway_operator.sources.listing import Item
from portway_operator.sources.resources import Target
from portway_operator.sources.stream import Deleted, Listed, Message, Opened, Refused, Seen
from portway_operator.store import ObjectStore

__all__ = ["Change", "Intake", "SourceCounters"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """An object that differs in what we read of it; `before` is None for a new one, `after` for one that is gone.

    They are the same when what changed is that the object can, or cannot, be read. `writer` is who wrote it last; None
    when nobody wrote: it was there before, and is read from now on, or, where it is `dropped`, not any more.
    """

    kind: Kind
    namespace: str
    name: str
    before: Object | None
    after: Object | None
    writer: Writer | None = NOBODY
    dropped: bool = False


class SourceCounters:
    """What the source did, for the metrics; every counter only grows.

    `corrections` counts objects that a list, and no event, taught us after the first list: lost events, mostly.
    """

    __slots__ = ("corrections", "events", "lists", "malformed", "refusals", "restarts", "watches")

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()
        self.watches: Counter[str] = Counter()
        self.corrections: Counter[str] = Counter()
        self.malformed: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.restarts = 0

    def restarted(self) -> None:
        """Count that kopf had to be started again."""
        self.restarts += 1


def _source(kind: Kind, name: Name) -> str:
    return f"{kind} {name[0]}/{name[1]}"


class Intake:
    """The ledgers of all targets, before the store.

    `listed` is set once every target was listed; no change is told before, because the first compile takes everything.
    `caught_up` is set while every target that was added later was listed too, or refused.
    """

    def __init__(self, store: ObjectStore, on_change: Callable[[Change], None]) -> None:
        self.listed = asyncio.Event()
        self.caught_up = asyncio.Event()
        self.counters = SourceCounters()
        self._store = store
        self._on_change = on_change
        self._ledgers: dict[Target, Ledger] = {}
        self._unlisted: set[Target] = set()
        self._awaited: set[Target] = set()
        self._trouble: dict[Target, str] = {}
        self._malformed: set[tuple[Kind, Name]] = set()
        self._writers = LastWriters()

    def add(self, target: Target) -> Ledger:
        """Expect a target's messages; return its ledger. Before `listed`, it is waited for."""
        if not self.listed.is_set():
            self._unlisted.add(target)
        self._awaited.add(target)
        self.caught_up.clear()
        return self._ledgers.setdefault(target, Ledger())

    def drop(self, target: Target) -> None:
        """Forget a target and the objects that only it knew; messages about it that still come are ignored."""
        ledger = self._ledgers.pop(target)
        self._trouble.pop(target, None)
        for name in ledger.names():
            self._remove(target, name, dropped=True)
        self._done(target)

    def troubles(self) -> list[str]:
        """Return a sentence for each target that was not listed yet or cannot be watched now, sorted."""
        targets = self._unlisted | self._trouble.keys()
        return sorted(f"{target}: {self._trouble.get(target, 'not listed yet')}" for target in targets)

    def objects(self) -> dict[str, int]:
        """Return how many objects of each kind are known."""
        known: Counter[str] = Counter()
        for target, ledger in self._ledgers.items():
            known[target.kind] += len(ledger)
        return dict(known)

    def take(self, message: Message) -> None:
        """Take in what a stream says."""
        ledger = self._ledgers.get(message.target)
        if ledger is None:
            return
        match message:
            case Listed():
                self._take_list(message, ledger)
            case Seen() | Deleted():
                self._take_event(message, ledger)
            case Opened(target=target):
                self.counters.watches[target.kind] += 1
                if self._trouble.pop(target, None) is not None:
                    _log.info("%s is watched again", target)
            case Refused():
                self._take_refusal(message)

    def _take_event(self, message: Seen | Deleted, ledger: Ledger) -> None:
        target, item = message.target, message.item
        self.counters.events[target.kind] += 1
        # A version that is no number cannot be compared: the order of arrival is all there is.
        version = item.version if item.version is not None else ledger.highest + 1
        if isinstance(message, Deleted):
            if ledger.retire(item.name, version):
                self._remove(target, item.name)
        elif ledger.admit(item.name, version):
            self._put(target, item)

    def _take_list(self, message: Listed, ledger: Ledger) -> None:
        target, listing = message.target, message.listing
        self.counters.lists[target.kind] += 1
        items = {item.name: item for item in listing.items}
        versions = {name: item.version or 0 for name, item in items.items()}
        version = listing.version if listing.version is not None else ledger.highest
        settled = ledger.settle(version, versions, message.mark)
        if settled.rewound:
            _log.warning("%s: the API server's history went back (a restore?); what it lists now counts", target)
        if target not in self._unlisted:
            self.counters.corrections[target.kind] += len(settled.fresh) + len(settled.vanished)
        for name in settled.fresh:
            self._put(target, items[name], found=target in self._awaited)
        for name in settled.vanished:
            self._remove(target, name)
        self._done(target)

    def _take_refusal(self, message: Refused) -> None:
        self.counters.refusals[message.target.kind, message.code] += 1
        # Said once: an outage must not fill the log.
        if self._trouble.get(message.target) != message.reason:
            _log.warning("%s: the API server refuses it or is away, trying on: %s", message.target, message.reason)
        self._trouble[message.target] = message.reason
        self._heard_of(message.target)

    def _done(self, target: Target) -> None:
        self._heard_of(target)
        self._unlisted.discard(target)
        if not self._unlisted:
            self.listed.set()

    def _heard_of(self, target: Target) -> None:
        self._awaited.discard(target)
        if not self._awaited:
            self.caught_up.set()

    def _put(self, target: Target, item: Item, *, found: bool = False) -> None:
        """Take in an object as it is; one that is `found` by a first list was there before we looked."""
        kind, name = target.kind, item.name
        last = self._writers.last((kind, name), item.writers) if self.listed.is_set() else NOBODY
        writer = None if found else last
        before = self._store.get(kind, *name)
        if item.problem is not None:
            self.counters.malformed[kind] += 1
            self._malformed.add((kind, name))
            if self._store.report(_source(kind, name), [item.problem]):
                self._tell(Change(kind, *name, before, before, writer))
        elif item.object is None:
            self._remove(target, name)
        elif self._store.put(item.object) | self._forgive(kind, name):
            self._tell(Change(kind, *name, before, item.object, writer))

    def _remove(self, target: Target, name: Name, *, dropped: bool = False) -> None:
        others = (ledger for other, ledger in self._ledgers.items() if other.kind == target.kind and other != target)
        if any(name in ledger for ledger in others):
            return
        before = self._store.get(target.kind, *name)
        if self._store.remove(target.kind, *name) | self._forgive(target.kind, name):
            self._tell(Change(target.kind, *name, before, None, dropped=dropped))

    def _forgive(self, kind: Kind, name: Name) -> bool:
        """Take back the problem that an object was; return whether it was one."""
        if (kind, name) not in self._malformed:
            return False
        self._malformed.remove((kind, name))
        return self._store.report(_source(kind, name), [])

    def _tell(self, change: Change) -> None:
        if self.listed.is_set():
            self._on_change(change)
