"""The keys of ingress-nginx's ConfigMap that Portway does not read, each with the reason: none is ignored in silence.

A key that is read, in `compile.configuration`, counts over its row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from portway_operator import problems
from portway_operator.problems import Origin, Problem

__all__ = ["NGINX_KEYS", "Unread", "guards", "is_nginx", "note_unread"]

_OFF: Final = ("", "false", "False", "0", "off")
_ON: Final = ("true", "True", "1", "on")
_NOTHING: Final = ("",)


@dataclass(frozen=True, slots=True)
class Unread:
    """A key without a setting; `reason` and `remedy` are sentences, a `harmless` value asks for what is so anyway.

    One without remedy only tunes nginx. One that `guards` keeps somebody away.
    """

    reason: str
    remedy: str = ""
    harmless: tuple[str, ...] = ()
    guards: bool = False


def _tunes(reason: str, names: str) -> dict[str, Unread]:
    return dict.fromkeys(names.split(), Unread(reason))


def _lacks(
    reason: str, remedy: str, names: Mapping[str, tuple[str, ...]], *, guarding: bool = False
) -> dict[str, Unread]:
    return {name: Unread(reason, remedy, harmless, guarding) for name, harmless in names.items()}


def _all(names: str, harmless: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names.split(), harmless)


_IDLE: Final = {
    **_tunes(
        "Portway has no processes of nginx; its workers are the flag --workers of portway proxy.",
        "enable-multi-accept max-worker-open-files reuse-port worker-cpu-affinity worker-processes "
        "worker-serial-reloads",
    ),
    **_tunes(
        "Portway sizes its tables itself.",
        "limit-conn-zone-variable lua-shared-dicts map-hash-bucket-size proxy-headers-hash-bucket-size "
        "proxy-headers-hash-max-size server-name-hash-bucket-size server-name-hash-max-size "
        "variables-hash-bucket-size variables-hash-max-size",
    ),
    **_tunes(
        "Bodies pass as they come, so that there are no buffers to size.",
        "client-header-buffer-size enable-aio-write grpc-buffer-size-kb proxy-busy-buffers-size "
        "proxy-max-temp-file-size",
    ),
    **_tunes(
        "A connection is kept for as long as it is used.",
        "keep-alive-requests upstream-keepalive-requests upstream-keepalive-time",
    ),
    **_tunes(
        "Access lines go to standard output, or where the flag --access-log-path of portway proxy says.",
        "access-log-params disable-stream-access-log enable-access-log-for-default-backend enable-auth-access-log "
        "error-log-level error-log-path http-access-log-path log-format-stream stream-access-log-path",
    ),
    **_tunes(
        "It is about a part of nginx that Portway does not have.",
        "debug-connections default-type disable-ipv6-dns geoip2-autoreload-in-minutes nginx-status-ipv4-whitelist "
        "nginx-status-ipv6-whitelist opentelemetry-config otel-max-export-batch-size "
        "otel-max-queuesize otel-schedule-delay-millis proxy-ssl-location-only resolver",
    ),
    **_tunes(
        "Portway checks paths and annotations by itself, and executes none.",
        "annotation-value-word-blocklist annotations-risk-level strict-validate-path-type",
    ),
    **_tunes("A slash at the end of a path stays in redirects anyway.", "preserve-trailing-slash"),
    **_tunes(
        "It is a flag of the proxies: portway proxy --address.",
        "bind-address bind-address-ipv4 bind-address-ipv6 disable-ipv6",
    ),
    **_tunes(
        "Portway does not compress.",
        "brotli-level brotli-min-length brotli-types gzip-disable gzip-level gzip-min-length gzip-types",
    ),
    **_tunes("Set field-size and head-size, for all heads.", "http2-max-field-size http2-max-header-size"),
    **_tunes("A connection takes any number of requests.", "http2-max-requests"),
    **_tunes("Access lines do not go to a syslog.", "syslog-host syslog-port"),
}

_GUARDS: Final = {
    **_lacks(
        "Text of nginx's configuration is never executed.",
        "Write what it does as annotations, as portway check proposes for the snippets of Ingresses.",
        _all(
            "auth-snippet global-auth-snippet http-snippet location-snippet main-snippet modsecurity-snippet "
            "server-snippet stream-snippet",
            _NOTHING,
        ),
    ),
    **_lacks(
        "There is no ModSecurity in Portway, and a firewall that is left out without a word is worse than none.",
        "Put a firewall before or behind Portway, and remove the key.",
        {"enable-modsecurity": _OFF},
        guarding=True,
    ),
    **_lacks("There is no ModSecurity in Portway.", "Remove it.", {"enable-owasp-modsecurity-crs": _OFF}),
}

_BEHAVIOUR: Final = {
    **_lacks(
        "Text of nginx's configuration is never executed.", "Set it to false.", {"allow-snippet-annotations": _OFF}
    ),
    **_lacks(
        "A Secret of another namespace belongs to somebody else.",
        "Put a copy into the Ingress's own namespace.",
        {"allow-cross-namespace-resources": _OFF},
    ),
    **_lacks(
        "Portway does not compress.",
        "Let the application, or a cache before Portway, compress.",
        _all("enable-brotli use-gzip", _OFF),
    ),
    **_lacks(
        "How names of fields are read is not a setting.",
        "Send names of letters, digits and hyphens.",
        {"enable-underscores-in-headers": _OFF, "ignore-invalid-headers": _ON},
    ),
    **_lacks(
        "Access lines escape control characters.", "Use log-format-escape-json.", {"log-format-escape-none": _OFF}
    ),
    **_lacks("Access lines do not go to a syslog.", "Collect them from the log.", {"enable-syslog": _OFF}),
    **_lacks(
        "Portway knows no countries of addresses.",
        "Have the application look them up.",
        _all("use-geoip use-geoip2", _OFF),
    ),
    **_lacks("Portway has no plugins.", "Remove it.", {"plugins": _NOTHING}),
    **_lacks(
        "Connections at layer 4 go on to other endpoints as Portway has it.",
        "Remove it.",
        {
            "proxy-stream-next-upstream": _ON,
            "proxy-stream-next-upstream-timeout": ("", "600s"),
            "proxy-stream-next-upstream-tries": ("", "3"),
            "proxy-stream-responses": ("", "1"),
        },
    ),
    **_lacks("Access lines are all of HTTP.", "Set disable-access-log.", {"disable-http-access-log": _OFF}),
    **_lacks("ingress-nginx has removed it.", "Use enable-opentelemetry.", {"enable-opentracing": _OFF}),
}

NGINX_KEYS: Final[Mapping[str, Unread]] = {**_IDLE, **_GUARDS, **_BEHAVIOUR}
"""Every key of ingress-nginx's that no setting of ours is for."""

_GONE: Final = ("datadog-", "global-rate-limit-", "jaeger-", "opentracing-", "zipkin-")
_REMOVED: Final = Unread("ingress-nginx has removed it.")


def is_nginx(name: str) -> bool:
    """Return whether ingress-nginx has or had such a key, and Portway has no setting for it."""
    return name in NGINX_KEYS or name.startswith(_GONE)


def guards(name: str) -> bool:
    """Return whether the key keeps somebody away, so that without it nobody may come."""
    return name in NGINX_KEYS and NGINX_KEYS[name].guards


def note_unread(origin: Origin, name: str, value: str) -> Problem | None:
    """Return what to say of such a key: nothing where its value changes nothing."""
    row = NGINX_KEYS.get(name, _REMOVED)
    if value.strip() in row.harmless:
        return None
    if not row.remedy:
        return problems.config_key_idle(origin, row.reason)
    return problems.config_key_refused(origin, row.reason, row.remedy, guards=row.guards)
