"""Which objects changed between what is published and what comes next, and who changed them."""

from __future__ import annotations

from collections.abc import Collection, Container
from datetime import datetime

import msgspec

from portway_operator.objects import EndpointSlice, Kind
from portway_operator.sources.intake import Change
from portway_proxy.history import Action, Cause

__all__ = ["Causes", "cause_of", "services_of"]

_Service = tuple[str, str]
_Key = tuple[str, str, str]


def cause_of(change: Change, now: datetime) -> Cause:
    """Return what is told of a change that a cluster's objects went through.

    Nobody says who deletes an object, nor when: then `now` is the time, as it is for one that was there before and is
    only now read.
    """
    place = (change.kind, change.namespace, change.name)
    if change.after is None and change.before is not None:
        return Cause(*place, Action.DELETED, "", now)
    if change.writer is None:
        return Cause(*place, Action.READ, "", now)
    action = Action.CREATED if change.before is None else Action.CHANGED
    return Cause(*place, action, change.writer.manager, change.writer.at(now))


def services_of(change: Change) -> set[_Service]:
    """Return whose endpoints alone a change is about; a slice may move from one Service to another."""
    if change.kind is not Kind.ENDPOINT_SLICE or change.before == change.after:
        return set()
    slices = (one for one in (change.before, change.after) if isinstance(one, EndpointSlice) and one.service)
    return {(one.meta.namespace, one.service) for one in slices}


class Causes:
    """The objects that changed and are in nothing published yet: told with what is published next.

    A compile tells what it saw when it began, and the endpoints that changed until it was over.
    """

    __slots__ = ("_endpoints", "_noted", "_seen")

    def __init__(self) -> None:
        self._noted: dict[_Key, Cause] = {}
        self._seen: dict[_Key, Cause] = {}
        self._endpoints: dict[_Service, dict[_Key, Cause]] = {}

    def note(self, cause: Cause, services: Collection[_Service] = ()) -> None:
        """Take note of a change; of one of endpoints alone, with whose they are."""
        if not services:
            _put(self._noted, cause)
        for service in services:
            _put(self._endpoints.setdefault(service, {}), cause)

    def begin(self) -> None:
        """Take note that a compile begins: it sees what was noted so far."""
        self.keep(self._noted.values())
        self._noted = {}

    def of_compile(self, services: Container[_Service]) -> tuple[Cause, ...]:
        """Return what a compile is to tell, with the endpoints of such `services`."""
        for service, causes in self._endpoints.items():
            if service in services:
                self.keep(causes.values())
        self._endpoints = {}
        # People's changes first: of many only the first are told.
        return tuple(sorted(self._seen.values(), key=lambda one: (one.kind == Kind.ENDPOINT_SLICE, one.at)))

    def compiled(self) -> None:
        """Take note that what a compile came to is published."""
        self._seen = {}

    def of_endpoints(self, services: Collection[_Service], used: Container[_Service]) -> tuple[Cause, ...]:
        """Return what new endpoints of some services are to tell, of those that are `used`; they are not told again.

        A Service that changed meanwhile may show already, though what else it changed is yet to come.
        """
        found: dict[_Key, Cause] = {}
        for service in services:
            slices, key = self._endpoints.pop(service, {}), (Kind.SERVICE, *service)
            if service in used:
                shown = (known[key] for known in (self._noted, self._seen) if key in known)
                found.update((_key(one), one) for one in (*shown, *slices.values()))
        return tuple(found.values())

    def keep(self, causes: Collection[Cause]) -> None:
        """Tell `causes` with what the next compile comes to."""
        for cause in causes:
            _put(self._seen, cause)


def _key(cause: Cause) -> _Key:
    return cause.kind, cause.namespace, cause.name


def _put(known: dict[_Key, Cause], cause: Cause) -> None:
    """Add a cause to those of the same generation: an object that was made and changed since was made."""
    before = known.get(_key(cause))
    actions = None if before is None else (before.action, cause.action)
    if actions == (Action.CREATED, Action.CHANGED):
        cause = msgspec.structs.replace(cause, action=Action.CREATED)
    elif actions == (Action.DELETED, Action.CREATED):
        cause = msgspec.structs.replace(cause, action=Action.CHANGED)
    known[_key(cause)] = cause
