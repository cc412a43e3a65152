"""The annotations of an Ingress that say where requests go: paths as patterns, rewrites, redirects, other hosts."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.parse import boolean, one_of
from portway_operator.parse_http import hosts, location, prefix, redirect_status, replacement, template
from portway_operator.settings import Compatibility

__all__ = ["RoutingAnnotations"]


@dataclass(frozen=True)
class RoutingAnnotations:
    """What the annotations of an Ingress say about where its requests go."""

    compatibility: Compatibility | None = row(
        "compatibility",
        one_of(Compatibility),
        default=None,
        makes="redirect",
        doc="`strict` reads the Ingress as the specification has it, `ingress-nginx` as that does where the two "
        "differ; unset, the annotation of this name on the IngressClass says, else the settings.",
    )
    use_regex: bool = row(
        "use-regex",
        boolean,
        default=False,
        doc="Whether paths are regular expressions, which have to fit the beginning of a request's path in upper or "
        "lower case: those with the pathType ImplementationSpecific, and others with a sign that has a meaning there.",
        nginx="use-regex",
        fidelity=close(
            "Paths of other Ingresses stay as they are, and so do those of the types Exact and Prefix without such a "
            "sign; expressions are RE2's, without look-around.",
            strict=True,
        ),
    )
    rewrite_target: str = row(
        "rewrite-target",
        replacement,
        default="",
        makes=("rewrite", "prefix"),
        doc="What the endpoint gets for the path, with `$1` to `$9` for the groups of the path as a regular expression "
        "(see `use-regex`, which this implies); the query stays.",
        nginx="rewrite-target",
        fidelity=close("Paths of other Ingresses do not become regular expressions.", strict=True),
    )
    forwarded_prefix: str = row(
        "forwarded-prefix",
        prefix,
        default="",
        makes="prefix",
        doc="The X-Forwarded-Prefix that the endpoint gets beside `rewrite-target`.",
        nginx="x-forwarded-prefix",
        requires=("rewrite_target",),
    )
    app_root: str = row(
        "app-root",
        prefix,
        default="",
        makes=("app_root", "relative"),
        doc="Where a request for exactly `/` is sent, by a 302.",
        nginx="app-root",
    )
    ssl_redirect: bool | None = row(
        "ssl-redirect",
        boolean,
        default=None,
        makes="https_redirect",
        doc="Whether requests without TLS are sent to https on hosts that have TLS; unset, the settings say.",
        nginx="ssl-redirect",
        fidelity=close("A slash at the end of the path stays, as with preserve-trailing-slash."),
    )
    force_ssl_redirect: bool | None = row(
        "force-ssl-redirect",
        boolean,
        default=None,
        makes="https_redirect",
        doc="Whether they are on hosts without TLS too; for a balancer before Portway that has the "
        "certificates; unset, the settings say.",
        nginx="force-ssl-redirect",
        fidelity=close("A slash at the end of the path stays, as with preserve-trailing-slash."),
    )
    permanent_redirect: str = row(
        "permanent-redirect",
        location,
        default="",
        makes="redirect",
        doc="Where every request is sent, perhaps with variables (`https://new.example$request_uri`).",
        nginx="permanent-redirect",
    )
    permanent_redirect_code: int = row(
        "permanent-redirect-code",
        redirect_status(308),
        default=301,
        makes="redirect",
        doc="The status of that redirect.",
        nginx="permanent-redirect-code",
        requires=("permanent_redirect",),
    )
    temporal_redirect: str = row(
        "temporal-redirect",
        location,
        default="",
        makes="redirect",
        doc="Where every request is sent for the time being; it wins over `permanent-redirect`.",
        nginx="temporal-redirect",
    )
    temporal_redirect_code: int = row(
        "temporal-redirect-code",
        redirect_status(307),
        default=302,
        makes="redirect",
        doc="The status of that redirect.",
        nginx="temporal-redirect-code",
        requires=("temporal_redirect",),
    )
    from_to_www_redirect: bool = row(
        "from-to-www-redirect",
        boolean,
        default=False,
        makes="www",
        doc="Whether `www.` before a host of the Ingress, or the host without it, is sent to the host by a 308; hosts "
        "that an Ingress declares, and wildcards, are not.",
        nginx="from-to-www-redirect",
        fidelity=close("A slash at the end of the path stays."),
    )
    server_alias: tuple[str, ...] = row(
        "server-alias",
        hosts,
        default=(),
        doc="More hosts that are served as the hosts of the Ingress; those that an Ingress declares are not.",
        nginx="server-alias",
        fidelity=close("A regular expression (`~...`) is refused.", lambda value: "~" in value),
    )
    relative_redirects: bool = row(
        "relative-redirects",
        boolean,
        default=False,
        makes=("relative", "redirect"),
        doc="Whether the Location of `app-root`, and of the slash that `compatibility: ingress-nginx` adds, is the "
        "path alone.",
        nginx="relative-redirects",
    )
    use_port_in_redirects: bool = row(
        "use-port-in-redirects",
        boolean,
        default=False,
        makes="redirect",
        doc="Whether the Location of that slash names the port.",
        nginx="use-port-in-redirects",
    )
    upstream_host: str = row(
        "upstream-host",
        template,
        default="",
        makes="host",
        doc="The Host that the endpoint gets in the place of the client's, perhaps with variables.",
        nginx="upstream-vhost",
    )
