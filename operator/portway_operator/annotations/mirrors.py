"""The annotations of an Ingress that have copies of its requests go elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.parse import switch
from portway_operator.parse_auth import ServiceUrl, service_url
from portway_operator.parse_http import template

__all__ = ["MirrorAnnotations"]

_TARGET = ("mirror_target",)


@dataclass(frozen=True)
class MirrorAnnotations:
    """What the annotations of an Ingress say about copies of requests."""

    mirror_target: ServiceUrl | None = row(
        "mirror-target",
        service_url,
        default=None,
        makes="mirror",
        doc="Where a copy of each request goes that may reach an endpoint (`http://twin.shop.svc$request_uri`); the "
        "answer to it is dropped, and nobody waits for it. `http://NAME.NAMESPACE.svc` is that Service and its "
        "endpoints; other names are looked up again and again.",
        nginx="mirror-target",
        fidelity=close(
            "No variable may stand in the place of the host. Who does not keep up with its copies, or has 1,000 of a "
            "worker's under way, gets no more of them meanwhile. Addresses of loopback, link-local and metadata "
            "services are refused."
        ),
    )
    mirror_host: str = row(
        "mirror-host",
        template,
        default="",
        makes="mirror",
        doc="The Host of the copies, perhaps with variables; unset, it is that of the target.",
        nginx="mirror-host",
        requires=_TARGET,
    )
    mirror_request_body: bool = row(
        "mirror-request-body",
        switch,
        default=True,
        makes="mirror",
        doc="Whether copies have the request's body (`on`), or none (`off`).",
        nginx="mirror-request-body",
        requires=_TARGET,
    )
