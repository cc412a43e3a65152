"""The services that are asked who may come to a path (`auth-url`), and where they are."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from portway_operator import problems
from portway_operator.addresses import name_refusal
from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.compile.access import Access
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.objects import Ingress
from portway_operator.parse_auth import AuthUrl
from portway_operator.problems import Origin, at
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import ExternalAuth, Protocol, Upstream

__all__ = ["AuthServices"]

_SERVICE = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?")
_BACK = "$scheme://$http_host$escaped_request_uri"


class AuthServices:
    """Reads which services Ingresses ask; `outside` are those that are no Service of the cluster, by name."""

    __slots__ = ("_config_map", "_for_all", "_upstreams", "outside")

    def __init__(self, upstreams: Upstreams, settings: CompileSettings) -> None:
        self.outside: dict[str, Upstream] = {}
        self._for_all = IngressAnnotations(**dict(settings.global_auth))
        namespace, _, name = settings.config_map.partition("/")
        self._config_map = Origin("ConfigMap", namespace, name, "data[global-auth-url]")
        self._upstreams = upstreams

    def read(self, ingress: Ingress, values: IngressAnnotations) -> Access:
        """Return what an Ingress with these annotations asks of a service."""
        origin = at(ingress, f"metadata.annotations[{key_of(ingress, rows(IngressAnnotations)['auth_url'])}]")
        if values.auth_url is None and values.enable_global_auth:
            values, origin = self._for_all, self._config_map
        url = values.auth_url
        if url is None:
            return Access()
        where = self._where(url, origin)
        if isinstance(where, Access):
            return where
        external = ExternalAuth(
            where,
            url.target,
            url.authority if url.host else "$http_host",
            method=values.auth_method.upper(),
            signin=_signin(values.auth_signin, values.auth_signin_redirect_param),
            redirect=values.auth_request_redirect or "$request_uri",
            copied=values.auth_response_headers,
            fields=values.auth_fields,
            cache_key=values.auth_cache_key,
            durations=values.auth_cache_duration if values.auth_cache_key else (),
            always_cookie=values.auth_always_set_cookie,
        )
        return Access(external=external)

    def _where(self, url: AuthUrl, origin: Origin) -> str | Access:
        """Return the name of the upstream, empty for the request's own host, or why nobody may come in."""
        if not url.host:
            return ""
        service = _SERVICE.fullmatch(url.host)
        if service is not None and url.scheme == "http":
            wanted = Wanted(service[2], service[1], url.port)
            found = self._upstreams.reference_problems(wanted, origin)
            if found:
                return Access(closed=found[0].code, problems=tuple(found))
            return self._upstreams.resolve(wanted).upstream.name
        refusal = name_refusal(url.host)
        if refusal:
            problem = problems.auth_url_refused(origin, url.host, refusal)
            return Access(closed=problem.code, problems=(problem,))
        return self._outside(url)

    def _outside(self, url: AuthUrl) -> str:
        name = f"{url.scheme}://{url.host}:{url.port}"
        protocol = Protocol.HTTPS if url.scheme == "https" else Protocol.HTTP
        self.outside[name] = Upstream(name, protocol, external_name=url.host.strip("[]"), external_port=url.port)
        return name


def _signin(url: str, parameter: str) -> str:
    """Return where clients sign in, with the URL to come back to unless that is there."""
    query = url.partition("?")[2]
    if not url or parse_qs(query).get(parameter):
        return url
    return f"{url}{'&' if query else '' if url.endswith('?') else '?'}{parameter}={_BACK}"
