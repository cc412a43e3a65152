"""Services that annotations name by a URL: those of the cluster, with their endpoints, and those outside, by name."""

from __future__ import annotations

import re

from portway_operator import problems
from portway_operator.addresses import name_refusal
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.parse_auth import ServiceUrl
from portway_operator.problems import Origin, Problem
from portway_proxy.snapshot import Protocol, Upstream

__all__ = ["ByUrl"]

_SERVICE = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?")


class ByUrl:
    """Finds upstreams by URL; `outside` are those that are no Service of the cluster, by name."""

    __slots__ = ("_upstreams", "outside")

    def __init__(self, upstreams: Upstreams) -> None:
        self.outside: dict[str, Upstream] = {}
        self._upstreams = upstreams

    def find(self, url: ServiceUrl, origin: Origin) -> str | list[Problem]:
        """Return the name of the upstream, or what is wrong with it."""
        service = _SERVICE.fullmatch(url.host)
        if service is not None and url.scheme == "http":
            wanted = Wanted(service[2], service[1], url.port)
            return self._upstreams.reference_problems(wanted, origin) or self._upstreams.resolve(wanted).upstream.name
        refusal = name_refusal(url.host)
        if refusal:
            return [problems.auth_url_refused(origin, url.host, refusal)]
        name = f"{url.scheme}://{url.host}:{url.port}"
        protocol = Protocol.HTTPS if url.scheme == "https" else Protocol.HTTP
        self.outside[name] = Upstream(name, protocol, external_name=url.host.strip("[]"), external_port=url.port)
        return name
