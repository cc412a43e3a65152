"""The services that are asked who may come to a path (`auth-url`), and where they are."""

from __future__ import annotations

from urllib.parse import parse_qs

from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.compile.access import Access
from portway_operator.compile.by_url import ByUrl
from portway_operator.objects import Ingress
from portway_operator.parse_auth import ServiceUrl
from portway_operator.problems import Origin, at
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import ExternalAuth

__all__ = ["AuthServices"]

_BACK = "$scheme://$http_host$escaped_request_uri"


class AuthServices:
    """Reads which services Ingresses ask."""

    __slots__ = ("_config_map", "_for_all", "_services")

    def __init__(self, services: ByUrl, settings: CompileSettings) -> None:
        self._for_all = IngressAnnotations(**dict(settings.global_auth))
        namespace, _, name = settings.config_map.partition("/")
        self._config_map = Origin("ConfigMap", namespace, name, "data[global-auth-url]")
        self._services = services

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

    def _where(self, url: ServiceUrl, origin: Origin) -> str | Access:
        """Return the name of the upstream, empty for the request's own host, or why nobody may come in."""
        if not url.host:
            return ""
        found = self._services.find(url, origin)
        return found if isinstance(found, str) else Access(closed=found[0].code, problems=tuple(found))


def _signin(url: str, parameter: str) -> str:
    """Return where clients sign in, with the URL to come back to unless that is there."""
    query = url.partition("?")[2]
    if not url or parse_qs(query).get(parameter):
        return url
    return f"{url}{'&' if query else '' if url.endswith('?') else '?'}{parameter}={_BACK}"
