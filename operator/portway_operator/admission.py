"""Says of an Ingress, before it is stored, whether it would close or lose a route (sans-io).

It is compiled beside the few Ingresses that claim the same, by the compile's own parts, as it is to be and as it was;
what is wrong only then is its fault. What it refers to may come later: that is a warning, and no reason to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, Reading, read
from portway_operator.claims import Claim, Claims, Key, claims_of, only
from portway_operator.compile.classes import Classes
from portway_operator.compile.configuration import configured
from portway_operator.compile.defaults import choose_default
from portway_operator.compile.policies import Policies
from portway_operator.compile.routes import HostTable, IngressRoutes, RouteReader
from portway_operator.compile.tls import read_tls
from portway_operator.compile.upstreams import Upstreams
from portway_operator.decode import BadObject, Raw, decode
from portway_operator.decode.meta import CLASS_ANNOTATION
from portway_operator.objects import Ingress, Meta
from portway_operator.problems import Origin, Problem, Severity
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore

__all__ = ["Admission", "NoIngress", "Verdict"]

_TLS: Final = "spec.tls"
_PLAIN: Final = Reading(IngressAnnotations())


class NoIngress(ValueError):
    """What is to be judged is another kind of object."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an Ingress: `refused` for which it must not be stored, and what its owner should know."""

    refused: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Findings:
    """What is wrong with one form of an Ingress: what costs routes, here or elsewhere, and all the rest."""

    costly: tuple[Problem, ...] = ()
    others: tuple[Problem, ...] = ()


class Admission:
    """Judges Ingresses by what `store` knows; `change` keeps it up to date with the store's Ingresses.

    A judgement takes the time of the paths that it is about, however many others there are.
    """

    def __init__(self, store: ObjectStore, settings: CompileSettings) -> None:
        self._store = store
        self._given = settings
        self._claims = Claims()
        # No Service's endpoints matter here, and there may be thousands.
        self._names = ObjectStore()
        self._names.services = store.services

    @property
    def _settings(self) -> CompileSettings:
        """Return what counts now."""
        return configured(self._store, self._given)[0]

    def begin(self) -> None:
        """Take in all Ingresses that the store has now."""
        self._claims = Claims(self._store.ingresses.values())

    def change(self, before: Ingress | None, after: Ingress | None) -> None:
        """Take in that an Ingress of the store is now `after`, and was `before`."""
        self._claims.change(before, after)

    def judge(self, new: Raw, old: Raw | None) -> Verdict:
        """Return what is wrong with an Ingress that is to be stored in the place of `old`; raises `NoIngress`."""
        classes = Classes(self._store.ingress_classes.values(), self._settings)
        after, before = _read(new), None if old is None else _read(old)
        if isinstance(after, Problem):
            if not classes.ours(_named(new)) or after == before:
                return Verdict()
            return Verdict((after,))
        if not classes.ours(after):
            return Verdict()
        found = self._findings(after, classes)
        was = _Findings()
        if isinstance(before, Ingress) and classes.ours(before):
            was = self._findings(before, classes)
        known = {_said(problem, after) for problem in was.costly}
        return Verdict(tuple(one for one in found.costly if _said(one, after) not in known), found.others)

    def _findings(self, ingress: Ingress, classes: Classes) -> _Findings:
        """Return what is wrong with an Ingress, and with others because of it."""
        reading = read(IngressAnnotations, ingress)
        upstreams = Upstreams(self._names, self._settings)
        own = RouteReader(ingress, upstreams, Policies(reading, self._settings), frozenset()).read()
        taken = self._contest(own, classes, upstreams)
        faults = [problems.fault(ingress, fault) for fault in ingress.faults]
        costly = [problem for problem in taken if problem.severity is Severity.ERROR]
        costly += [problem for problem in faults if not problem.origin.field.startswith(_TLS)]
        costly += reading.problems if reading.closed else ()
        everything = [*taken, *faults, *reading.problems, *own.problems, *read_tls(self._store, ingress).problems]
        others = [problem for problem in everything if problem not in costly]
        return _Findings(tuple(sorted(set(costly))), tuple(sorted(set(others))))

    def _contest(self, own: IngressRoutes, classes: Classes, upstreams: Upstreams) -> list[Problem]:
        """Return who loses what, once all that claim the same are lined up by age."""
        noted: list[Problem] = []
        table = HostTable(upstreams)
        found = sorted([own, *self._rivals(own, classes, upstreams)], key=lambda one: one.ingress.meta.precedence)
        for routes in found:
            table.add(routes)
        if own.default is not None and not own.ingress.has_rules:
            choose_default(found, self._settings, noted)
        return [*table.problems, *noted]

    def _rivals(self, own: IngressRoutes, classes: Classes, upstreams: Upstreams) -> Iterator[IngressRoutes]:
        """Yield who serves what `own` claims, without all that they serve beside that.

        Of many that claim the same, the oldest is enough: the others have lost already.
        """
        served: dict[Key, set[Claim]] = {}
        for claim in set(claims_of(own.ingress)):
            for key in self._oldest(self._claims.claimants(claim), own, classes):
                served.setdefault(key, set()).add(claim)
        if own.default is not None and not own.ingress.has_rules:
            for key in self._oldest(self._claims.defaults(), own, classes):
                served.setdefault(key, set())
        policies = Policies(_PLAIN, self._settings)
        for key, claims in served.items():
            rival = only(self._store.ingresses[key], claims)
            yield RouteReader(rival, upstreams, policies, frozenset()).read()

    def _oldest(self, queues: Iterable[Iterable[Key]], own: IngressRoutes, classes: Classes) -> Iterable[Key]:
        """Return the oldest of these Ingresses, beside our own, that is served at all; none, or one."""
        first = (self._first(keys, own, classes) for keys in queues)
        oldest = min((one for one in first if one is not None), key=lambda one: one.meta.precedence, default=None)
        return () if oldest is None else (oldest.meta.key,)

    def _first(self, keys: Iterable[Key], own: IngressRoutes, classes: Classes) -> Ingress | None:
        """Return the first of Ingresses that name one class, beside our own, that is served at all."""
        for key in keys:
            one = self._store.ingresses.get(key)
            if one is None or key == own.ingress.meta.key:
                continue
            if not classes.ours(one):
                # Nor is any other that names it.
                return None
            if not self._store.refusal(one):
                return one
        return None


def _read(raw: Raw) -> Ingress | Problem:
    """Return the Ingress, or why nothing of it can be used."""
    try:
        found = decode(raw)
    except BadObject as error:
        return problems.bad_object(error)
    if not isinstance(found, Ingress):
        raise NoIngress("the object is no Ingress of networking.k8s.io/v1")
    return found


def _named(raw: Raw) -> Ingress:
    """Return an Ingress with nothing but the class that an unreadable one names."""
    spec, metadata = (raw.get(part) for part in ("spec", "metadata"))
    name = spec.get("ingressClassName") if isinstance(spec, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    legacy = annotations.get(CLASS_ANNOTATION) if isinstance(annotations, dict) else None
    meta = Meta("", "", annotations={CLASS_ANNOTATION: legacy} if isinstance(legacy, str) else {})
    return Ingress(meta, class_name=name if isinstance(name, str) else None)


def _said(problem: Problem, ingress: Ingress) -> tuple[Origin | None, str, str]:
    """Return what makes a problem the same one as before.

    In the Ingress itself fields may have moved; of another one the winner may have changed, and it lost all the same.
    """
    own = (problem.origin.namespace, problem.origin.name) == ingress.meta.key
    return (None, problem.code, problem.found) if own else (problem.origin, problem.code, "")
