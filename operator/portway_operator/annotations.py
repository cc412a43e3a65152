"""The annotations that Portway reads: one frozen dataclass per scope, whose field list is the table.

To add one, add a row. `rows` gives the table to those who print it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from portway_operator.decode.meta import NGINX_PREFIX, PREFIX
from portway_operator.objects import Ingress, Kind, PortRef, Service
from portway_operator.parse import PortMapping, boolean, endpoints, one_of, port_mappings, ports, size
from portway_operator.problems import Problem, annotation_invalid, annotation_unknown, at
from portway_proxy.snapshot import Balance, Endpoint

__all__ = [
    "SCOPES",
    "IngressAnnotations",
    "Invalid",
    "Reading",
    "Row",
    "ServiceAnnotations",
    "read",
    "row",
    "rows",
]

T = TypeVar("T")
S = TypeVar("S")


class Invalid(StrEnum):
    """What a value that cannot be read does."""

    DEFAULT = "the default is used"
    CLOSE = "the paths of the Ingress answer 503"


@dataclass(frozen=True, slots=True)
class Row:
    """One annotation: its name without prefix, its parser and what the documentation says.

    `nginx` is the name of ingress-nginx's annotation that means the same, empty without one; ours wins over it.
    """

    name: str
    parse: Callable[[str], object]
    doc: str
    invalid: Invalid
    nginx: str


def row(
    name: str,
    parse: Callable[[str], T],
    *,
    default: T,
    doc: str,
    invalid: Invalid = Invalid.DEFAULT,
    nginx: str = "",
) -> T:
    """Return the dataclass field of an annotation."""
    return dataclasses.field(default=default, metadata={"row": Row(name, parse, doc, invalid, nginx)})


@dataclass(frozen=True, slots=True)
class IngressAnnotations:
    """What the annotations of an Ingress say."""

    ssl_redirect: bool | None = row(
        "ssl-redirect",
        boolean,
        default=None,
        doc="Whether requests without TLS are sent to https on hosts that have TLS; unset, the settings say.",
        nginx="ssl-redirect",
    )
    body_size: int | None = row(
        "body-size",
        size,
        default=None,
        doc="The most that a request body may have (`8m`); 0 is no limit, unset leaves the proxy's own.",
        nginx="proxy-body-size",
    )


@dataclass(frozen=True, slots=True)
class ServiceAnnotations:
    """What the annotations of a Service say."""

    balance: Balance = row(  # noqa: RUF009 - it makes a field
        "balance",
        one_of(Balance),
        default=Balance.ROUND_ROBIN,
        doc="How the next endpoint is chosen: `round-robin` or `random`.",
    )
    tcp_ports: tuple[PortMapping, ...] = row(
        "tcp-ports",
        port_mappings,
        default=(),
        doc="TCP ports to open for the Service, each with the Service's port if that is another: `5432, 9000:metrics`.",
    )
    udp_ports: tuple[PortMapping, ...] = row(
        "udp-ports",
        port_mappings,
        default=(),
        doc="As `tcp-ports`, for UDP; not served yet.",
    )
    opaque_ports: tuple[PortRef, ...] = row(
        "opaque-ports",
        ports,
        default=(),
        doc="Ports of the Service that do not speak HTTP, by number or name.",
    )
    endpoints: tuple[Endpoint, ...] = row(
        "endpoints",
        endpoints,
        default=(),
        doc="Where the Service lives, for `portway run` and a Service without EndpointSlices: `127.0.0.1:5000`.",
    )


SCOPES: Mapping[Kind, type] = {Kind.INGRESS: IngressAnnotations, Kind.SERVICE: ServiceAnnotations}
"""The table of each kind that may be annotated."""


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


def read(scope: type[S], owner: Ingress | Service) -> Reading[S]:
    """Return what the annotations of `owner` say, by the table `scope`."""
    annotations = owner.meta.annotations
    if not annotations:
        return Reading(scope())
    table = rows(scope)
    values: dict[str, object] = {}
    problems = _unknown(owner, table)
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
    return Reading(scope(**values), tuple(problems), closed)


def _key(annotations: Mapping[str, str], entry: Row) -> str:
    """Return the annotation to read for a row; empty when there is none."""
    ours, twin = PREFIX + entry.name, NGINX_PREFIX + entry.nginx
    if ours in annotations:
        return ours
    return twin if entry.nginx and twin in annotations else ""


def _unknown(owner: Ingress | Service, table: Mapping[str, Row]) -> list[Problem]:
    known = {entry.name for entry in table.values()}
    return [
        annotation_unknown(at(owner, f"metadata.annotations[{key}]"), _hint(owner.kind, name, known))
        for key in sorted(owner.meta.annotations)
        if key.startswith(PREFIX) and (name := key.removeprefix(PREFIX)) not in known
    ]


def _hint(kind: Kind, name: str, known: set[str]) -> str:
    for other, scope in SCOPES.items():
        if other is not kind and any(entry.name == name for entry in rows(scope).values()):
            return f"It is for a {other}." if other is not Kind.INGRESS else "It is for an Ingress."
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"Did you mean {PREFIX}{close[0]}?" if close else "Remove it."
