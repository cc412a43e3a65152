"""The annotations of an Ingress about pages of other origins (CORS)."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.rows import Invalid, row
from portway_operator.parse import boolean, count
from portway_operator.parse_http import field_names, methods_list, origins
from portway_proxy.snapshot import Cors

__all__ = ["CorsAnnotations"]

_USUAL = Cors()
_LONGEST = 100_000_000


@dataclass(frozen=True)
class CorsAnnotations:
    """What the annotations of an Ingress say about pages of other origins."""

    enable_cors: bool = row(
        "enable-cors",
        boolean,
        default=False,
        makes="cors",
        doc="Whether pages of other origins may send requests: preflights are answered with 204, and all other answers "
        "have the fields of CORS.",
        nginx="enable-cors",
    )
    cors_allow_origin: tuple[str, ...] = row(
        "cors-allow-origin",
        origins,
        default=_USUAL.origins,
        makes="cors",
        doc="The origins that may; `*` is any, `https://*.shop.example` leaves one label open.",
        invalid=Invalid.CLOSE,
        nginx="cors-allow-origin",
        requires=("enable_cors",),
    )
    cors_allow_methods: str = row(
        "cors-allow-methods",
        methods_list,
        default=_USUAL.methods,
        makes="cors",
        doc="The methods that they may use.",
        nginx="cors-allow-methods",
        requires=("enable_cors",),
    )
    cors_allow_headers: str = row(
        "cors-allow-headers",
        field_names,
        default=_USUAL.headers,
        makes="cors",
        doc="The header fields that they may send.",
        nginx="cors-allow-headers",
        requires=("enable_cors",),
    )
    cors_expose_headers: str = row(
        "cors-expose-headers",
        field_names,
        default=_USUAL.expose,
        makes="cors",
        doc="The header fields of answers that they may read.",
        nginx="cors-expose-headers",
        requires=("enable_cors",),
    )
    cors_allow_credentials: bool = row(
        "cors-allow-credentials",
        boolean,
        default=_USUAL.credentials,
        makes="cors",
        doc="Whether they may send cookies and passwords.",
        nginx="cors-allow-credentials",
        requires=("enable_cors",),
    )
    cors_max_age: int = row(
        "cors-max-age",
        count(0, _LONGEST),
        default=_USUAL.max_age,
        makes="cors",
        doc="Seconds that a browser may remember the answer to a preflight.",
        nginx="cors-max-age",
        requires=("enable_cors",),
    )
