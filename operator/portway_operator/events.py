"""Tells the owners of objects what is wrong with them, as Events on the object concerned; the leader alone does.

An Event's name is made of what it says, so that neither a restart nor a new leader says it twice. What is no longer
wrong is not mentioned: the Event expires.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from portway_operator.api_objects import ApiObjects, ApiUnavailable, Conflict, Missing, Raw
from portway_operator.objects import Kind
from portway_operator.sources.backoff import Backoff
from portway_operator.sources.resources import RESOURCES
from portway_operator.status import Leads
from portway_operator.store import ObjectStore
from portway_operator.throttle import Throttle
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = ["EventPace", "Events"]

_log = logging.getLogger(__name__)

_GROUP: Final = "events.k8s.io/v1"
_CONTROLLER: Final = "portway.dev/operator"
# What the API server takes.
_NOTE: Final = 1024
_INSTANCE: Final = 128
_NAME: Final = 230
# An object with a thousand bad paths is one bad object; client-go lets 25 through as well.
_ONE_OBJECT: Final = 25
_IDLE: Final = 60.0
_LEAST: Final = 0.05
_KINDS: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class EventPace:
    """How much is said; times are seconds.

    rate: Events a second, `burst` of them at once.
    hold: a problem that is mended sooner is not mentioned, as while several objects are applied one after the other.
    again: between two Events for a problem that comes and goes.
    refresh: between two Events for one that stays; the API server forgets an Event after an hour.
    """

    rate: float = 10.0
    burst: int = 20
    hold: float = 2.0
    again: float = 300.0
    refresh: float = 1800.0


@dataclass(slots=True)
class _Standing:
    """A problem that there is now, and since when."""

    problem: Problem
    since: float


@dataclass(slots=True)
class _Told:
    """An Event that was sent: when last, and how often."""

    at: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class _Regarding:
    """The object that a problem is about; `uid` is empty when it could not be read."""

    origin: Origin
    api_version: str
    namespace: str
    uid: str


class Events:
    """Keeps the owners told of the problems that `show` is given, while `leads` says that we lead."""

    def __init__(
        self, api: ApiObjects, leads: Leads, store: ObjectStore, instance: str, pace: EventPace = EventPace()
    ) -> None:
        self._api = api
        self._leads = leads
        self._store = store
        self._instance = instance[:_INSTANCE]
        self._pace = pace
        self._throttle = Throttle(pace.rate, pace.burst)
        self._backoff = Backoff()
        self._standing: dict[str, _Standing] = {}
        self._told: dict[str, _Told] = {}
        self._names: dict[tuple[Problem, str], str] = {}
        self._wake = asyncio.Event()
        self._trouble = ""

    def show(self, problems: Iterable[Problem]) -> None:
        """Make `problems` all that there are now."""
        now = asyncio.get_running_loop().time()
        before = self._standing
        self._standing = {
            name: before.get(name) or _Standing(problem, now) for name, problem in self._named(_bounded(problems))
        }
        self._wake.set()

    def poke(self) -> None:
        """Look at once whether something is to be told: leadership was won."""
        self._wake.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            delay = self._next() if self._leads.leading else _IDLE
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            if self._leads.leading:
                try:
                    await self._tell_all()
                except ApiUnavailable as error:
                    self._say(f"Events are sent later: {error}")
                    await asyncio.sleep(self._backoff.next())
                except Exception:  # noqa: BLE001 - the loop must survive; it is logged
                    _log.exception("Events cannot be sent; tried again soon")
                    await asyncio.sleep(self._backoff.next())

    def _next(self) -> float:
        """Return the seconds until the next Event is due."""
        now = asyncio.get_running_loop().time()
        return max(_LEAST, min((self._due(name) - now for name in self._standing), default=_IDLE))

    def _due(self, name: str) -> float:
        """Return when the problem of a name is to be told."""
        standing, told = self._standing[name], self._told.get(name)
        if told is None:
            return standing.since + self._pace.hold
        came_back = standing.since > told.at
        return told.at + (self._pace.again if came_back else self._pace.refresh)

    async def _tell_all(self) -> None:
        now = asyncio.get_running_loop().time()
        self._told = {name: told for name, told in self._told.items() if told.at > now - 2 * self._pace.refresh}
        for name in sorted((one for one in self._standing if self._due(one) <= now), key=self._due):
            await self._throttle.turn()
            if not self._leads.leading:
                return
            # It may have been mended while others were told.
            if name in self._standing:
                await self._tell(name, self._standing[name].problem)
        self._trouble = ""

    async def _tell(self, name: str, problem: Problem) -> None:
        regarding = self._regarding(problem.origin)
        if regarding is None:
            return
        told = self._told.get(name)
        count = 1 if told is None else told.count + 1
        try:
            if told is None or not await self._repeat(name, regarding.namespace, count):
                await self._create(name, regarding, problem)
        except ApiUnavailable as error:
            # A namespace that is about to go takes none, and forbids them.
            if error.passing and error.status != 403:
                raise
            self._say(f"an Event for {problem.origin} is refused: {error}")
        self._told[name] = _Told(asyncio.get_running_loop().time(), count)

    async def _create(self, name: str, regarding: _Regarding, problem: Problem) -> None:
        body: Raw = {
            "apiVersion": _GROUP,
            "kind": "Event",
            "metadata": {"name": name, "namespace": regarding.namespace},
            "eventTime": _now(),
            "reportingController": _CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Serve",
            "reason": "".join(word.capitalize() for word in problem.code.split("_")),
            "type": "Warning" if problem.severity is Severity.ERROR else "Normal",
            "note": _note(problem),
            "regarding": {
                "apiVersion": regarding.api_version,
                "kind": regarding.origin.kind,
                "namespace": regarding.origin.namespace,
                "name": regarding.origin.name,
                **({"uid": regarding.uid} if regarding.uid else {}),
            },
        }
        with suppress(Conflict):  # Said already, by an earlier leader.
            await self._api.create(_path(regarding.namespace), body)

    async def _repeat(self, name: str, namespace: str, count: int) -> bool:
        """Say that the Event of a name happened again; return whether it was still there."""
        try:
            series = {"count": count, "lastObservedTime": _now()}
            await self._api.merge(f"{_path(namespace)}/{name}", {"series": series})
        except Missing:
            return False
        return True

    def _named(self, problems: Iterable[Problem]) -> Iterator[tuple[str, Problem]]:
        """Yield each problem that has an object, with the name of its Event."""
        before, self._names = self._names, {}
        for problem in problems:
            regarding = self._regarding(problem.origin)
            if regarding is not None:
                key = problem, regarding.uid
                name = self._names[key] = before.get(key) or _name(*key)
                yield name, problem

    def _regarding(self, origin: Origin) -> _Regarding | None:
        """Return the object that a problem is about; None for what is no object of the API (a setting)."""
        if origin.kind not in _KINDS:
            return None
        kind = Kind(origin.kind)
        found = self._store.get(kind, origin.namespace, origin.name)
        # The API wants a namespace even for what is in none.
        return _Regarding(
            origin, RESOURCES[kind].api_version, origin.namespace or "default", "" if found is None else found.meta.uid
        )

    def _say(self, trouble: str) -> None:
        """Log a trouble; once, not every time."""
        if not self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble


def _bounded(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the problems, errors first, and no more than a few of each object."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for problem in sorted(problems, key=lambda problem: problem.severity is not Severity.ERROR):
        key = problem.origin.kind, problem.origin.namespace, problem.origin.name
        seen[key] += 1
        if seen[key] <= _ONE_OBJECT:
            yield problem


def _name(problem: Problem, uid: str) -> str:
    """Return the name of the Event: the same for the same finding about the same object, in every replica."""
    parts = (str(problem.origin), problem.code, problem.found, uid)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"{problem.origin.name[:_NAME]}.{digest}"


def _note(problem: Problem) -> str:
    place = f"{problem.origin.field}: " if problem.origin.field else ""
    return f"{place}{problem.found} {problem.done} {problem.remedy}".strip()[:_NOTE]


def _path(namespace: str) -> str:
    return f"/apis/{_GROUP}/namespaces/{namespace}/events"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
