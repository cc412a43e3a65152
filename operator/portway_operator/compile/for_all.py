"""Keys of ingress-nginx's ConfigMap that say for all Ingresses what an annotation says for one.

Each is read by the row of the annotation; what an Ingress says itself counts over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from portway_operator.annotations import IngressAnnotations, rows, unsaid
from portway_operator.compile.observing import paths
from portway_operator.parse import boolean
from portway_operator.settings import CompileSettings

__all__ = ["KEYS", "changes", "default", "field", "guards", "usual"]

Said = tuple[tuple[str, Any], ...]

_NO_AUTH: Final = "no-auth-locations"
_AGAIN: Final = "retry-non-idempotent"
_GLOBAL: Final = "global-"
_FIELDS: Final = {name: field for field, row in rows(IngressAnnotations).items() for name in row.nginx}
_NAMES: Final = (
    "app-root",
    "client-body-buffer-size",
    "limit-rate",
    "limit-rate-after",
    "load-balance",
    "opentelemetry-operation-name",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-http-version",
    "proxy-next-upstream",
    "proxy-next-upstream-timeout",
    "proxy-next-upstream-tries",
    "proxy-redirect-from",
    "proxy-redirect-to",
    "proxy-request-buffering",
    "relative-redirects",
    "service-upstream",
    "upstream-hash-by",
    "upstream-hash-by-subset",
    "upstream-hash-by-subset-size",
    "use-port-in-redirects",
)
_AUTH: Final = (
    "auth-always-set-cookie",
    "auth-cache-duration",
    "auth-cache-key",
    "auth-method",
    "auth-request-redirect",
    "auth-response-headers",
    "auth-signin",
    "auth-signin-redirect-param",
    "auth-url",
)

KEYS: Final = (*_NAMES, *(_GLOBAL + name for name in _AUTH), _NO_AUTH, _AGAIN)
"""Every such key."""


def default(name: str) -> object:
    """Return what a key sets where it is not there."""
    if name in (_NO_AUTH, _AGAIN):
        return CompileSettings().no_auth_locations if name == _NO_AUTH else False
    return getattr(IngressAnnotations, field(name))


def field(name: str) -> str:
    """Return the field of `IngressAnnotations` that a key sets; empty for none."""
    if name in (_NO_AUTH, _AGAIN):
        return "" if name == _NO_AUTH else "next_upstream"
    return _FIELDS[name.removeprefix(_GLOBAL)]


def guards(name: str) -> bool:
    """Return whether a key keeps anybody away."""
    return name.startswith(_GLOBAL)


def changes(said: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings that keys and their values come to, and what is wrong with each key that cannot be read."""
    found: dict[str, Any] = {}
    auth: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    settings: dict[str, Any] = {}
    again = False
    for name, value in said.items():
        try:
            if name == _NO_AUTH:
                settings["no_auth_locations"] = paths(value)
            elif name == _AGAIN:
                again = boolean(value)
            elif value:
                parsed = rows(IngressAnnotations)[field(name)].parse(value.strip(" "))
                (auth if guards(name) else found)[field(name)] = parsed
        except ValueError as error:
            wrong[name] = str(error)
    if again and found.get("next_upstream", True) != ():
        cases = {*(found.get("next_upstream") or ("error", "timeout")), "non_idempotent"}
        found["next_upstream"] = tuple(sorted(cases))
    settings |= {"for_all": tuple(sorted(found.items()))} if found else {}
    settings |= {"global_auth": tuple(sorted(auth.items()))} if "auth_url" in auth else {}
    return settings, wrong


def usual(settings: CompileSettings) -> IngressAnnotations:
    """Return what counts for an Ingress that says nothing."""
    return _annotations(settings.for_all) if settings.for_all else unsaid(IngressAnnotations).values


@lru_cache(maxsize=8)
def _annotations(said: Said) -> IngressAnnotations:
    return IngressAnnotations(**dict(said))
