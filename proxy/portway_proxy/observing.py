"""What proxies write and trace: a part of the settings of each, over which the operator's ConfigMap counts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from portway_proxy.log_format import Escape
from portway_proxy.networks import Networks

__all__ = ["AccessLogSettings", "Export", "Observing", "Sampler", "Tracing"]


class Sampler(StrEnum):
    """Which requests that begin a trace are traced; the names are those of ingress-nginx's otel-sampler."""

    ALWAYS_ON = "AlwaysOn"
    ALWAYS_OFF = "AlwaysOff"
    RATIO = "TraceIdRatioBased"


class Export(StrEnum):
    """How spans travel to the collector."""

    HTTP = "http/protobuf"
    GRPC = "grpc"


class Tracing(msgspec.Struct, frozen=True):
    """How requests are traced.

    `endpoint` is the collector's URL; over HTTP `/v1/traces` is added to one without a path. `ratio` is for
    `Sampler.RATIO`. With `parent_based` a request that comes with a trace is traced when its sender does; without
    `trust_incoming` such a trace is ignored, and a new one begins. Where it is not `everywhere`, only requests
    of routes that say so are traced.
    """

    endpoint: str
    export: Export = Export.HTTP
    service: str = "portway"
    sampler: Sampler = Sampler.ALWAYS_ON
    ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    parent_based: bool = True
    trust_incoming: bool = True
    everywhere: bool = True


class AccessLogSettings(msgspec.Struct, frozen=True):
    """How access lines are written.

    `format` is one of `log_format.FORMATS` or a template, whose variables `escape` is for. Requests for the paths in
    `skip` get no line. `path` is the file; standard output without one.
    """

    enabled: bool = True
    format: str = "text"
    escape: Escape = Escape.DEFAULT
    skip: tuple[str, ...] = ()
    path: str = ""


class Observing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the operator's ConfigMap says of all this; None leaves a proxy's own setting. `log_skip` is sorted.

    `explain_to`, sorted, are the networks whose clients are told in responses what became of their requests.
    """

    access_log: bool | None = None
    log_format: str | None = None
    log_escape: Escape | None = None
    log_skip: tuple[str, ...] | None = None
    tracing: Tracing | None = None
    explain_to: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what is no network."""
        Networks(self.explain_to or ())

    def access(self, own: AccessLogSettings) -> AccessLogSettings:
        """Return how a proxy writes access lines whose `own` settings these are."""
        said = {"enabled": self.access_log, "format": self.log_format, "escape": self.log_escape, "skip": self.log_skip}
        return msgspec.structs.replace(own, **{name: value for name, value in said.items() if value is not None})
