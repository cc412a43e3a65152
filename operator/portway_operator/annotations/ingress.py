"""The annotations of an Ingress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from portway_operator.annotations.access import AccessAnnotations
from portway_operator.annotations.answers import AnswerAnnotations
from portway_operator.annotations.balancing import BalancingAnnotations
from portway_operator.annotations.bytes import BytesAnnotations
from portway_operator.annotations.canary import CanaryAnnotations
from portway_operator.annotations.client_certificates import ClientCertificateAnnotations
from portway_operator.annotations.cors import CorsAnnotations
from portway_operator.annotations.endpoint_tls import EndpointTlsAnnotations
from portway_operator.annotations.errors import ErrorAnnotations
from portway_operator.annotations.external_auth import ExternalAuthAnnotations
from portway_operator.annotations.fidelity import close
from portway_operator.annotations.limits import LimitAnnotations
from portway_operator.annotations.mirrors import MirrorAnnotations
from portway_operator.annotations.routing import RoutingAnnotations
from portway_operator.annotations.rows import Invalid, Row, row
from portway_operator.annotations.tracing import TracingAnnotations
from portway_operator.annotations.unbuilt import UNBUILT
from portway_operator.parse import boolean, map_reference, seconds, size
from portway_operator.parse_http import fields, request_fields
from portway_operator.parse_tls import ciphers

__all__ = ["IngressAnnotations"]

_DAY = 86_400.0
_UNITS = close(
    "A unit (`60s`, `1m`) is understood too, where ingress-nginx ignores the annotation.",
    lambda value: not value.isdecimal(),
)


@dataclass(frozen=True)
class IngressAnnotations(
    AnswerAnnotations,
    BalancingAnnotations,
    BytesAnnotations,
    CanaryAnnotations,
    ClientCertificateAnnotations,
    EndpointTlsAnnotations,
    LimitAnnotations,
    MirrorAnnotations,
    TracingAnnotations,
    CorsAnnotations,
    ErrorAnnotations,
    ExternalAuthAnnotations,
    AccessAnnotations,
    RoutingAnnotations,
):
    """What the annotations of an Ingress say; `others` are those of ingress-nginx that are not built."""

    others: ClassVar[tuple[Row, ...]] = UNBUILT

    connect_timeout: float = row(
        "connect-timeout",
        seconds(0, _DAY),
        default=0.0,
        makes="patience",
        doc="How long an endpoint may take to accept a connection (`5s`); 0 leaves the proxy's own time.",
        nginx="proxy-connect-timeout",
        fidelity=_UNITS,
    )
    read_timeout: float = row(
        "read-timeout",
        seconds(0, _DAY),
        default=0.0,
        makes="patience",
        doc="How long an endpoint may be silent before its answer, within it, and on a WebSocket (`1h`); 0 leaves the "
        "proxy's own times.",
        nginx="proxy-read-timeout",
        fidelity=_UNITS,
    )
    send_timeout: float = row(
        "send-timeout",
        seconds(0, _DAY),
        default=0.0,
        makes="patience",
        doc="How long an endpoint may take nothing of a request; 0 leaves the proxy's own time.",
        nginx="proxy-send-timeout",
        fidelity=_UNITS,
    )
    response_headers: tuple[tuple[str, str], ...] = row(
        "response-headers",
        fields,
        default=(),
        makes="answer",
        doc="Header fields that every answer has, in the place of the endpoint's of these names, one a line "
        "(`X-Frame-Options: DENY`).",
    )
    request_headers: tuple[tuple[str, str], ...] = row(
        "request-headers",
        request_fields,
        default=(),
        makes="request",
        doc="Header fields that the endpoint gets in the place of the client's of these names, one a line, perhaps "
        "with variables (`X-Client: $remote_addr`); one that comes out empty is left out.",
    )
    custom_headers: str = row(
        "custom-headers",
        map_reference,
        default="",
        makes="answer",
        doc="The ConfigMap of the same namespace whose keys and values are header fields that every answer has, each "
        "one of those that the settings' `global-allowed-response-headers` lists.",
        invalid=Invalid.CLOSE,
        nginx="custom-headers",
    )
    access_log: bool = row(
        "access-log",
        boolean,
        default=True,
        makes="unlogged",
        doc="Whether requests are written to the access log; they are counted all the same.",
        nginx="enable-access-log",
    )
    body_size: int | None = row(
        "body-size",
        size,
        default=None,
        makes="body_size",
        doc="The most that a request body may have (`8m`); 0 is no limit, unset leaves the proxy's own.",
        nginx="proxy-body-size",
    )
    ssl_ciphers: str = row(
        "ssl-ciphers",
        ciphers,
        default="",
        doc="The ciphers of TLS 1.2 for clients of the hosts, as OpenSSL lists them; unset, those of the settings. "
        "Where Ingresses differ, the oldest counts.",
        nginx="ssl-ciphers",
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
