"""The annotations of an Ingress whose endpoints get some of the requests of another Ingress's paths."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.parse import boolean, count, quotable, token
from portway_operator.parse_http import pattern

__all__ = ["CanaryAnnotations"]

_MOST = 1_000_000
_CANARY = ("canary",)


@dataclass(frozen=True)
class CanaryAnnotations:
    """What the annotations of an Ingress say about being a canary."""

    canary: bool = row(
        "canary",
        boolean,
        default=False,
        makes="canary",
        doc="Whether the Ingress only takes some of the requests of the Ingress that has the same hosts, paths and "
        "path types; all other annotations of that one count. A header decides, else a cookie, else chance.",
        nginx="canary",
    )
    canary_by_header: str = row(
        "canary-by-header",
        token,
        default="",
        makes="canary",
        doc="The header field whose value `always` takes a request, and `never` does not.",
        nginx="canary-by-header",
        requires=_CANARY,
    )
    canary_by_header_value: str = row(
        "canary-by-header-value",
        quotable,
        default="",
        makes="canary",
        doc="The value of that field that takes a request, in the place of `always` and `never`.",
        nginx="canary-by-header-value",
        requires=("canary_by_header",),
    )
    canary_by_header_pattern: str = row(
        "canary-by-header-pattern",
        pattern,
        default="",
        makes="canary",
        doc="A regular expression for that value, without `canary-by-header-value`.",
        nginx="canary-by-header-pattern",
        fidelity=close("Expressions are RE2's, without look-around; one that is none takes nothing."),
        requires=("canary_by_header",),
    )
    canary_by_cookie: str = row(
        "canary-by-cookie",
        token,
        default="",
        makes="canary",
        doc="The cookie whose value `always` takes a request, and `never` does not.",
        nginx="canary-by-cookie",
        requires=_CANARY,
    )
    canary_weight: int = row(
        "canary-weight",
        count(0, _MOST),
        default=0,
        makes="canary",
        doc="How many of `canary-weight-total` requests are taken by chance.",
        nginx="canary-weight",
        requires=_CANARY,
    )
    canary_weight_total: int = row(
        "canary-weight-total",
        count(1, _MOST),
        default=100,
        makes="canary",
        doc="All requests, for `canary-weight`.",
        nginx="canary-weight-total",
        requires=("canary_weight",),
    )
