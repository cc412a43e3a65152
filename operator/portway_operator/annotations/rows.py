"""How annotations are read: a frozen dataclass for each scope, whose field list is the table.

`rows` gives the table to those who print it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Generic, TypeVar

from portway_operator.decode.meta import NGINX_PREFIX, PREFIX
from portway_operator.objects import Ingress, Kind, Service
from portway_operator.problems import Problem, annotation_idle, annotation_invalid, annotation_unknown, at

__all__ = ["Invalid", "Reading", "Row", "read_scope", "row", "rows"]

T = TypeVar("T")
S = TypeVar("S")


class Invalid(StrEnum):
    """What a value that cannot be read does."""

    DEFAULT = "the default is used"
    CLOSE = "the paths of the Ingress answer 503"


@dataclass(frozen=True, slots=True)
class Row:
    """One annotation: its name without prefix, its parser and what the documentation says.

    `nginx` is the name of ingress-nginx's annotation that means the same, empty without one; ours wins over it. One
    that `requires` other fields has an effect only beside one of them.
    """

    name: str
    parse: Callable[[str], object]
    doc: str
    invalid: Invalid
    nginx: str
    requires: tuple[str, ...]


def row(  # noqa: PLR0913 - the columns of the table
    name: str,
    parse: Callable[[str], T],
    *,
    default: T,
    doc: str,
    invalid: Invalid = Invalid.DEFAULT,
    nginx: str = "",
    requires: tuple[str, ...] = (),
) -> T:
    """Return the dataclass field of an annotation."""
    return dataclasses.field(default=default, metadata={"row": Row(name, parse, doc, invalid, nginx, requires)})


@dataclass(frozen=True, slots=True)
class Reading(Generic[S]):
    """The values of an object's annotations and what is wrong with them.

    `closed` is the code of the problem for which nothing may pass; empty for none.
    """

    values: S
    problems: tuple[Problem, ...] = ()
    closed: str = ""


def rows(scope: type) -> Mapping[str, Row]:
    """Return the table of a scope: the row of each field."""
    return {field.name: field.metadata["row"] for field in dataclasses.fields(scope)}


def read_scope(scope: type[S], owner: Ingress | Service, scopes: Mapping[Kind, type]) -> Reading[S]:
    """Return what the annotations of `owner` say, by the table `scope`; `scopes` are the tables of all kinds."""
    annotations = owner.meta.annotations
    if not annotations:
        return _of_none(scope)  # type: ignore[arg-type] # mypy takes no generic class for hashable
    table = rows(scope)
    values: dict[str, object] = {}
    problems = _unknown(owner, table, scopes)
    closed = ""
    for field, entry in table.items():
        key = _key(annotations, entry)
        if not key:
            continue
        try:
            values[field] = entry.parse(annotations[key].strip(" "))
        except ValueError as error:
            closes = entry.invalid is Invalid.CLOSE
            origin = at(owner, f"metadata.annotations[{key}]")
            problems.append(annotation_invalid(origin, annotations[key], str(error), closes=closes))
            closed = "annotation_invalid" if closes else closed
    problems += _idle(owner, table, values)
    return Reading(scope(**values), tuple(problems), closed)


@cache
def _of_none(scope: type[S]) -> Reading[S]:
    """Return what most objects say: nothing. It is shared, as each compile reads thousands of them."""
    return Reading(scope())


def _key(annotations: Mapping[str, str], entry: Row) -> str:
    """Return the annotation to read for a row; empty when there is none."""
    ours, twin = PREFIX + entry.name, NGINX_PREFIX + entry.nginx
    if ours in annotations:
        return ours
    return twin if entry.nginx and twin in annotations else ""


def _idle(owner: Ingress | Service, table: Mapping[str, Row], values: Mapping[str, object]) -> list[Problem]:
    """Return a problem for each value that has no effect because what it belongs to is off."""
    found = []
    for field in values:
        requires = table[field].requires
        if requires and not any(values.get(other) for other in requires):
            origin = at(owner, f"metadata.annotations[{_key(owner.meta.annotations, table[field])}]")
            found.append(annotation_idle(origin, [PREFIX + table[other].name for other in requires]))
    return found


def _unknown(owner: Ingress | Service, table: Mapping[str, Row], scopes: Mapping[Kind, type]) -> list[Problem]:
    known = {entry.name for entry in table.values()}
    return [
        annotation_unknown(at(owner, f"metadata.annotations[{key}]"), _hint(owner.kind, name, known, scopes))
        for key in sorted(owner.meta.annotations)
        if key.startswith(PREFIX) and (name := key.removeprefix(PREFIX)) not in known
    ]


def _hint(kind: Kind, name: str, known: set[str], scopes: Mapping[Kind, type]) -> str:
    for other, scope in scopes.items():
        if other is not kind and any(entry.name == name for entry in rows(scope).values()):
            return f"It is for a {other}." if other is not Kind.INGRESS else "It is for an Ingress."
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"Did you mean {PREFIX}{close[0]}?" if close else "Remove it."
