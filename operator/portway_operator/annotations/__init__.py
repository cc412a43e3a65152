"""The annotations that Portway reads: one frozen dataclass per scope, whose field list is the table.

To add one, add a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from portway_operator.annotations.ingress import IngressAnnotations
from portway_operator.annotations.rows import (
    Invalid,
    Reading,
    Row,
    key_of,
    other_rows,
    read_scope,
    row,
    row_of,
    rows,
    unsaid,
)
from portway_operator.annotations.service import ServiceAnnotations
from portway_operator.objects import Ingress, Kind, Service

__all__ = [
    "SCOPES",
    "IngressAnnotations",
    "Invalid",
    "Reading",
    "Row",
    "ServiceAnnotations",
    "key_of",
    "other_rows",
    "read",
    "row",
    "row_of",
    "rows",
    "unsaid",
]

S = TypeVar("S")

SCOPES: Mapping[Kind, type] = {Kind.INGRESS: IngressAnnotations, Kind.SERVICE: ServiceAnnotations}
"""The table of each kind that may be annotated."""


def read(scope: type[S], owner: Ingress | Service, usual: S | None = None) -> Reading[S]:
    """Return what the annotations of `owner` say, by the table `scope`; what they do not say is as `usual`."""
    return read_scope(scope, owner, SCOPES, usual)
