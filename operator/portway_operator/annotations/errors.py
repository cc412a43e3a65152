"""The annotations of an Ingress that say who makes the pages for errors."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.parse import boolean, service_name, statuses

__all__ = ["ErrorAnnotations"]


@dataclass(frozen=True)
class ErrorAnnotations:
    """What the annotations of an Ingress say about errors."""

    custom_http_errors: tuple[int, ...] = row(
        "custom-http-errors",
        statuses,
        default=(),
        makes="errors",
        doc="The statuses (`404, 503`) in whose place the page of `default-backend` reaches the client, be they an "
        "endpoint's or the proxy's own. The default backend gets the status as X-Code, and X-Format, X-Original-URI, "
        "X-Namespace, X-Ingress-Name, X-Service-Name, X-Service-Port and X-Request-ID, and answers with a status of "
        "its own.",
        nginx="custom-http-errors",
        fidelity=close("The page is asked for by GET or HEAD, and never gets the body of the request."),
    )
    default_backend: str = row(
        "default-backend",
        service_name,
        default="",
        makes="errors",
        doc="The Service of the same namespace that makes these pages, and that gets the requests, with an X-Code of "
        "503, for which there is no endpoint; unset, the settings' default backend makes the pages.",
        nginx="default-backend",
    )
    disable_proxy_intercept_errors: bool = row(
        "disable-proxy-intercept-errors",
        boolean,
        default=False,
        makes="errors",
        doc="Whether the ConfigMap's `custom-http-errors` do not count here.",
        nginx="disable-proxy-intercept-errors",
    )
