"""How annotations are read: a frozen dataclass for each scope, whose field list is the table.

What ingress-nginx knows and we do not is in the table too, as rows without a field (`Scope.others`). `rows` gives the
table to those who print it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from typing import Generic, TypeVar

from portway_operator.annotations.fidelity import EXACT, Fidelity
from portway_operator.decode.meta import NGINX_PREFIX, PREFIX
from portway_operator.objects import Ingress, Kind, Service
from portway_operator.problems import (
    Origin,
    Problem,
    annotation_idle,
    annotation_invalid,
    annotation_refused,
    annotation_unknown,
    at,
)

__all__ = ["Invalid", "Reading", "Row", "key_of", "other_rows", "read_scope", "row", "row_of", "rows", "unsaid"]

T = TypeVar("T")
S = TypeVar("S")


class Invalid(StrEnum):
    """What a value that cannot be read does."""

    DEFAULT = "the default is used"
    CLOSE = "the paths of the Ingress answer 503"


@dataclass(frozen=True, slots=True)
class Row:
    """One annotation: its name without prefix, its parser and what the documentation says.

    `nginx` are the names of ingress-nginx's annotations that mean the same; ours wins over them, and the first over the
    second. `name` is empty for one that only ingress-nginx has. One that `requires` other fields has an effect only
    beside one of them. It `makes` fields of the policies of routes, upstreams and listeners, alone or with others.
    """

    name: str
    parse: Callable[[str], object]
    doc: str
    invalid: Invalid = Invalid.DEFAULT
    nginx: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    fidelity: Fidelity = EXACT
    makes: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the full names by which it is read, the one that wins first."""
        ours = (PREFIX + self.name,) if self.name else ()
        return (*ours, *(NGINX_PREFIX + name for name in self.nginx))


def row(  # noqa: PLR0913 - the columns of the table
    name: str,
    parse: Callable[[str], T],
    *,
    default: T,
    doc: str,
    invalid: Invalid = Invalid.DEFAULT,
    nginx: str | tuple[str, ...] = (),
    requires: tuple[str, ...] = (),
    fidelity: Fidelity = EXACT,
    makes: str | tuple[str, ...] = (),
) -> T:
    """Return the dataclass field of an annotation."""
    entry = Row(name, parse, doc, invalid, _several(nginx), requires, fidelity, _several(makes))
    return dataclasses.field(default=default, metadata={"row": entry})


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


@dataclass(frozen=True, slots=True)
class Reading(Generic[S]):
    """The values of an object's annotations and what is wrong with them.

    `closed` is the code of the problem for which nothing may pass; empty for none. `said` are the fields whose
    annotations could be read, each with the full name that counts. `closing` are those for which nothing may pass.
    """

    values: S
    problems: tuple[Problem, ...] = ()
    closed: str = ""
    said: tuple[tuple[str, str], ...] = ()
    closing: tuple[str, ...] = ()


@cache
def rows(scope: type) -> Mapping[str, Row]:
    """Return the table of a scope: the row of each field."""
    return {field.name: field.metadata["row"] for field in dataclasses.fields(scope)}


def other_rows(scope: type) -> tuple[Row, ...]:
    """Return the rows of a scope that have no field: what ingress-nginx knows and we do not."""
    found: tuple[Row, ...] = getattr(scope, "others", ())
    return found


def row_of(scope: type, key: str) -> Row | None:
    """Return the row that is read by a full name, built or not; None when there is none."""
    entry = _index(scope).get(key)
    return None if entry is None else entry.row


def key_of(owner: Ingress | Service, entry: Row) -> str:
    """Return the full name by which an object says what is in a row; the first one when it does not."""
    return next((key for key in entry.keys if key in owner.meta.annotations), entry.keys[0])


def read_scope(
    scope: type[S], owner: Ingress | Service, scopes: Mapping[Kind, type], usual: S | None = None
) -> Reading[S]:
    """Return what the annotations of `owner` say, by the table `scope`; what they do not say is as `usual`.

    `scopes` are the tables of all kinds.
    """
    if usual is None:
        usual = unsaid(scope).values  # type: ignore[arg-type] # mypy takes no generic class for hashable
    if not owner.meta.annotations:
        return _unsaid(usual)
    reading = _Reading(owner, scopes)
    reading.take(_index(scope), usual)  # type: ignore[arg-type] # mypy takes no generic class for hashable
    values: S = dataclasses.replace(usual, **reading.values)  # type: ignore[type-var] # a scope is a dataclass
    said, closing = tuple(reading.said.items()), tuple(reading.closing)
    return Reading(values, tuple(sorted(reading.problems)), reading.closed, said, closing)


@cache
def unsaid(scope: type[S]) -> Reading[S]:
    """Return what most objects say: nothing. It is shared, as each compile reads thousands of them."""
    return Reading(scope())


@lru_cache(maxsize=8)
def _unsaid(usual: S) -> Reading[S]:
    return Reading(usual)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row by one of its full names; `field` is empty for one without, `rank` says which name wins."""

    row: Row
    field: str
    rank: int


@cache
def _index(scope: type) -> Mapping[str, _Entry]:
    """Return the rows of a scope by their full names: an object has few annotations, the table has many."""
    fields = [*rows(scope).items(), *(("", entry) for entry in other_rows(scope))]
    return {key: _Entry(entry, field, rank) for field, entry in fields for rank, key in enumerate(entry.keys)}


class _Reading:
    """One object's annotations, as they are read."""

    def __init__(self, owner: Ingress | Service, scopes: Mapping[Kind, type]) -> None:
        self.values: dict[str, object] = {}
        self.said: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.closed = ""
        self.closing: list[str] = []
        self._owner = owner
        self._scopes = scopes

    def take(self, index: Mapping[str, _Entry], usual: object) -> None:
        """Read every annotation that is ours to read; what says nothing but what is `usual` is never idle."""
        used: dict[str, tuple[str, _Entry]] = {}
        for key, value in self._owner.meta.annotations.items():
            entry = index.get(key)
            if entry is None:
                self._unknown(key, index)
            elif not entry.field:
                self._refuse(key, value, entry.row)
            elif entry.field not in used or entry.rank < used[entry.field][1].rank:
                used[entry.field] = (key, entry)
        for field, (key, entry) in used.items():
            self._read(field, key, entry.row)
        self._idle(used, usual)

    def _read(self, field: str, key: str, entry: Row) -> None:
        value = self._owner.meta.annotations[key]
        try:
            self.values[field] = entry.parse(value.strip(" "))
        except ValueError as error:
            self._say(key, annotation_invalid(self._at(key), value, str(error), closes=_closes(entry)), entry)
        else:
            self.said[field] = key

    def _refuse(self, key: str, value: str, entry: Row) -> None:
        """Say that an annotation is not built, unless its value asks for nothing."""
        if not entry.parse(value.strip(" ")):
            return
        reason, remedy = entry.fidelity.words, entry.fidelity.remedy
        self._say(key, annotation_refused(self._at(key), reason, remedy, closes=_closes(entry)), entry)

    def _say(self, key: str, problem: Problem, entry: Row) -> None:
        self.problems.append(problem)
        if _closes(entry):
            self.closed = problem.code
            self.closing.append(key)

    def _idle(self, used: Mapping[str, tuple[str, _Entry]], usual: object) -> None:
        """Say of each value that has no effect that what it belongs to is off."""
        for field, value in self.values.items():
            key, entry = used[field]
            if value == getattr(usual, field):
                continue  # As without it.
            requires = entry.row.requires
            # What is there and cannot be read has its own problem.
            wanted = [other for other in requires if other in used and other not in self.values]
            if requires and not wanted and not any(self.values.get(other) for other in requires):
                self.problems.append(annotation_idle(self._at(key), [self._alike(other, entry) for other in requires]))

    def _alike(self, field: str, entry: _Entry) -> str:
        """Return the name of the row of `field` with the same prefix as the name of `entry` that was used."""
        keys = rows(self._scopes[self._owner.kind])[field].keys
        return keys[min(entry.rank, len(keys) - 1)]

    def _unknown(self, key: str, index: Mapping[str, _Entry]) -> None:
        prefix = next((prefix for prefix in (PREFIX, NGINX_PREFIX) if key.startswith(prefix)), "")
        if prefix == PREFIX or (prefix and other_rows(self._scopes[self._owner.kind])):
            known = [known.removeprefix(prefix) for known in index if known.startswith(prefix)]
            hint = _hint(self._owner.kind, key.removeprefix(prefix), prefix, known, self._scopes)
            self.problems.append(annotation_unknown(self._at(key), hint))

    def _at(self, key: str) -> Origin:
        return at(self._owner, f"metadata.annotations[{key}]")


def _closes(entry: Row) -> bool:
    return entry.invalid is Invalid.CLOSE


def _hint(kind: Kind, name: str, prefix: str, known: list[str], scopes: Mapping[Kind, type]) -> str:
    for other, scope in scopes.items():
        if other is not kind and prefix + name in _index(scope):
            return f"It is for a {other}." if other is not Kind.INGRESS else "It is for an Ingress."
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {prefix}{close[0]}?" if close else "Remove it."
