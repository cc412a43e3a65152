"""The annotations of an Ingress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from portway_operator.annotations.access import AccessAnnotations
from portway_operator.annotations.canary import CanaryAnnotations
from portway_operator.annotations.cors import CorsAnnotations
from portway_operator.annotations.limits import LimitAnnotations
from portway_operator.annotations.routing import RoutingAnnotations
from portway_operator.annotations.rows import Row, row
from portway_operator.annotations.unbuilt import UNBUILT
from portway_operator.parse import boolean, size

__all__ = ["IngressAnnotations"]


@dataclass(frozen=True)
class IngressAnnotations(CanaryAnnotations, LimitAnnotations, CorsAnnotations, AccessAnnotations, RoutingAnnotations):
    """What the annotations of an Ingress say; `others` are those of ingress-nginx that are not built."""

    others: ClassVar[tuple[Row, ...]] = UNBUILT

    body_size: int | None = row(
        "body-size",
        size,
        default=None,
        doc="The most that a request body may have (`8m`); 0 is no limit, unset leaves the proxy's own.",
        nginx="proxy-body-size",
    )
    tls_passthrough: bool | None = row(
        "tls-passthrough",
        boolean,
        default=None,
        doc="Whether TLS of the hosts goes to the Service of their path `/` as it is, told by the name that the client "
        "asks for (SNI); unset, that of hosts in `spec.tls` does whose port does not speak HTTP. Their other paths and "
        "the annotations of HTTP have no effect on it.",
        nginx="ssl-passthrough",
    )
