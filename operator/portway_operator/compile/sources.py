"""Where the values of policies came from, by the tables of annotations and of the ConfigMap's keys.

Each row of them says which fields it makes; that is all that is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from portway_operator.annotations import IngressAnnotations, Reading, Row, ServiceAnnotations, rows
from portway_operator.compile import for_all
from portway_operator.compile.configuration import KEYS
from portway_operator.objects import Ingress, Service
from portway_operator.problems import Origin, Problem
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import Source, Sources
from portway_proxy.sources import FOR_ALL

__all__ = ["Loan", "SourceReader", "join_sources", "lent", "of_service", "place_of"]

Made = dict[str, list[str]]

_USUAL: Final = CompileSettings()
_CLOSED: Final = "closed"
_REDIRECT: Final = "https_redirect"
_ANNOTATION: Final = "metadata.annotations["
_KEY: Final = "data["


@dataclass(frozen=True, slots=True)
class Loan:
    """A field of the routes of one Ingress that another one says."""

    field: str
    borrower: Origin
    lender: Origin


@dataclass(frozen=True, slots=True)
class _ForAll:
    """What a setting makes for every object, but for Ingresses that have the annotation of the field `unless`."""

    field: str
    place: str
    unless: str = ""


class SourceReader:
    """Reads where the values of Ingresses came from.

    `settings` are those that count, `problems` what is wrong with their ConfigMap.
    """

    __slots__ = ("_for_all",)

    def __init__(self, settings: CompileSettings, problems: Iterable[Problem] = ()) -> None:
        self._for_all = [*_of_settings(settings), *_of_the_map(settings)]
        closing = (place_of(problem) for problem in problems if settings.closed and problem.code == settings.closed)
        self._for_all += [_ForAll(_CLOSED, place) for place in closing]

    def for_all(self) -> Sources:
        """Return what counts for every object that says nothing itself.

        It may be nothing; that it is there tells a snapshot whose values are by default from one without sources.
        """
        made: Made = {}
        for one in self._for_all:
            made.setdefault(one.field, []).append(one.place)
        return _sources(FOR_ALL, made) or Sources(FOR_ALL, ())

    def of_ingress(
        self, ingress: Ingress, reading: Reading[IngressAnnotations], more: Iterable[tuple[str, str]]
    ) -> Sources | None:
        """Return where the values of an Ingress with these annotations came from; None where it says nothing.

        `more` are fields and places beside those that the tables tell.
        """
        made = _made(IngressAnnotations, reading)
        for field, place in more:
            made.setdefault(field, []).append(place)
        if not made:
            return None
        said = {field for field, _ in reading.said}
        for one in self._for_all:
            if one.field in made and one.unless not in said:
                made[one.field].append(one.place)
        return _sources(_name(ingress), made)


def of_service(service: Service, reading: Reading[ServiceAnnotations]) -> Sources | None:
    """Return where the values of a Service with these annotations came from; None where it says nothing."""
    return _sources(_name(service), _made(ServiceAnnotations, reading))


def place_of(problem: Problem) -> str:
    """Return the annotation or key that a problem is about."""
    origin = problem.origin
    if origin.field.startswith(_ANNOTATION):
        return _annotation(origin.field.removeprefix(_ANNOTATION)[:-1])
    if origin.kind == "ConfigMap" and origin.field.startswith(_KEY):
        return _key(f"{origin.namespace}/{origin.name}", origin.field.removeprefix(_KEY)[:-1])
    return str(origin)


def join_sources(found: Iterable[Sources | None]) -> tuple[Sources, ...]:
    """Return all of them in order; those of one object become one."""
    said = [one for one in found if one is not None]
    joined = {one.name: one for one in reversed(said)}
    if len(joined) < len(said):
        for one in said:
            first = joined[one.name]
            joined[one.name] = first if first is one else _together(first, one)
    return tuple(joined[name] for name in sorted(joined))


def lent(found: Iterable[Sources | None], loans: Iterable[Loan]) -> Iterator[Sources]:
    """Yield what becomes of the borrowers of `loans`, whose lenders are among those `found`."""
    known = {one.name: one for one in found if one is not None}
    for loan in loans:
        lender = _owner(loan.lender)
        source = known.get(lender)
        for each in source.fields if source is not None else ():
            if each.field == loan.field:
                places = tuple(f"{place} of {lender}" for place in each.places)
                yield Sources(_owner(loan.borrower), (Source(loan.field, places),))


def _sources(name: str, made: Made) -> Sources | None:
    if not made:
        return None
    return Sources(name, _fields(tuple((field, tuple(dict.fromkeys(made[field]))) for field in sorted(made))))


@lru_cache(maxsize=4096)
def _fields(said: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[Source, ...]:
    """Return the sources; what is equal is the same object, as most objects that say something say the same."""
    return tuple(Source(*each) for each in said)


def _owner(origin: Origin) -> str:
    return f"{origin.kind} {origin.namespace}/{origin.name}"


def _together(one: Sources, other: Sources) -> Sources:
    if one.fields == other.fields:
        return one
    made: dict[str, tuple[str, ...]] = {}
    for source in (*one.fields, *other.fields):
        made[source.field] = tuple(dict.fromkeys((*made.get(source.field, ()), *source.places)))
    return Sources(one.name, tuple(Source(field, made[field]) for field in sorted(made)))


def _made(scope: type, reading: Reading[IngressAnnotations] | Reading[ServiceAnnotations]) -> Made:
    """Return the places that made each field: the annotations that have an effect."""
    made: Made = {_CLOSED: list(map(_annotation, reading.closing))} if reading.closing else {}
    table = rows(scope)
    for field, key in sorted(reading.said, key=lambda each: each[1]) if reading.said else ():
        row = table[field]
        for name in row.makes if _counts(row, reading.values) else ():
            if _says(name, getattr(reading.values, field)):
                made.setdefault(name, []).append(_annotation(key))
    return made


def _counts(row: Row, values: object) -> bool:
    return not row.requires or any(getattr(values, other) for other in row.requires)


def _says(field: str, value: object) -> bool:
    """Return whether a value makes that field; of two that may ask for a redirect, a no is not what did."""
    return field != _REDIRECT or bool(value)


def _of_settings(settings: CompileSettings) -> Iterable[_ForAll]:
    """Yield what flags of the operator make."""
    said = {KEYS[name].setting for name in settings.said if name in KEYS}
    for name, key in KEYS.items():
        value = getattr(settings, key.setting)
        differs = key.setting not in said and value != getattr(_USUAL, key.setting)
        if key.makes and differs and _says(key.makes, value):
            yield _ForAll(key.makes, f"flag --{name}", _unless(key.setting))


def _of_the_map(settings: CompileSettings) -> Iterable[_ForAll]:
    """Yield what the keys of the ConfigMap make."""
    table = rows(IngressAnnotations)
    for name in settings.said:
        place = _key(settings.config_map, name)
        key = KEYS.get(name)
        if key is not None:
            if key.makes and _says(key.makes, getattr(settings, key.setting)):
                yield _ForAll(key.makes, place, _unless(key.setting))
        elif name in for_all.KEYS and (field := for_all.field(name)):
            unless = "auth_url" if for_all.guards(name) else field
            yield from (_ForAll(made, place, unless) for made in table[field].makes)


def _unless(setting: str) -> str:
    """Return the field of the annotation that counts over a setting: the one of its name, if there is one."""
    if setting == "default_backend_service":
        return "default_backend"
    return setting if setting in rows(IngressAnnotations) else ""


def _name(owner: Ingress | Service) -> str:
    return f"{owner.kind} {owner.meta.namespace}/{owner.meta.name}"


@cache
def _annotation(key: str) -> str:
    return f"annotation {key}"


def _key(config_map: str, name: str) -> str:
    return f"ConfigMap {config_map} key {name}"
