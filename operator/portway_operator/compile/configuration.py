"""Portway's own ConfigMap: settings that change while the operator runs, each over the flag of its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from portway_operator import problems
from portway_operator.compile import for_all, observing, tls_terms, tuning
from portway_operator.compile.field_maps import resolve_maps
from portway_operator.compile.nginx_keys import guards, is_nginx, note_unread
from portway_operator.objects import ConfigMap
from portway_operator.parse import (
    boolean,
    count,
    field_name,
    map_reference,
    names,
    networks,
    one_of,
    seconds,
    statuses,
)
from portway_operator.parse_http import texts
from portway_operator.parse_tls import ciphers, protocols
from portway_operator.problems import Origin, Problem
from portway_operator.settings import Compatibility, CompileSettings
from portway_operator.store import ObjectStore

__all__ = ["KEYS", "configured"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the ConfigMap: the setting that it sets, the parser of its value, and whether it keeps anybody away.

    It `makes` a field of the policies of routes or listeners, alone or with others.
    """

    setting: str
    parse: Callable[[str], object]
    guards: bool = False
    makes: str = ""


def _service(text: str) -> str:
    """Return what names a Service, or nothing for none; raises ValueError with what is wrong."""
    if not re.fullmatch(r"([a-z0-9-]+/[a-z0-9-]+(:[a-z0-9-]+)?)?", text):
        raise ValueError("it is not namespace/name or namespace/name:port")
    return text


KEYS: Final = {
    "add-headers": Key("add_headers", map_reference, makes="answer"),
    "allow-backend-server-header": Key("allow_backend_server_header", boolean, makes="hidden"),
    "allow-external-name": Key("allow_external_name", boolean),
    "allowlist-source-range": Key("allow_source_range", networks, guards=True, makes="allow"),
    "block-cidrs": Key("block_cidrs", networks, guards=True, makes="deny"),
    "block-referers": Key("block_referers", texts, guards=True, makes="blocked"),
    "block-user-agents": Key("block_user_agents", texts, guards=True, makes="blocked"),
    "catch-all": Key("allow_catch_all", boolean),
    "compatibility": Key("compatibility", one_of(Compatibility), makes="redirect"),
    "compute-full-forwarded-for": Key("compute_full_forwarded_for", boolean),
    "custom-http-errors": Key("custom_http_errors", statuses, makes="errors"),
    "default-backend-service": Key("default_backend_service", _service, makes="errors"),
    "denylist-source-range": Key("deny_source_range", networks, guards=True, makes="deny"),
    "disable-access-log": Key("disable_access_log", boolean),
    "disable-proxy-intercept-errors": Key("disable_proxy_intercept_errors", boolean),
    "enable-opentelemetry": Key("enable_opentelemetry", boolean),
    "enable-real-ip": Key("enable_real_ip", boolean),
    "explain-to": Key("explain_to", networks),
    "force-ssl-redirect": Key("force_ssl_redirect", boolean, makes="https_redirect"),
    "forwarded-for-header": Key("forwarded_for_header", field_name),
    "generate-request-id": Key("generate_request_id", boolean),
    "global-allowed-response-headers": Key("global_allowed_response_headers", names),
    "hide-headers": Key("hide_headers", names, makes="hidden"),
    "hsts": Key("hsts", boolean),
    "hsts-include-subdomains": Key("hsts_include_subdomains", boolean),
    "hsts-max-age": Key("hsts_max_age", count(0, 10 * 366 * 86400)),
    "hsts-preload": Key("hsts_preload", boolean),
    "http-redirect-code": Key("http_redirect_code", tls_terms.redirect_code),
    "ingress-class-by-name": Key("ingress_class_by_name", boolean),
    "limit-conn-status-code": Key("limit_conn_status_code", count(400, 599), makes="limit"),
    "limit-req-status-code": Key("limit_req_status_code", count(400, 599), makes="limit"),
    "log-format-escape-json": Key("log_format_escape_json", boolean),
    "log-format-upstream": Key("log_format_upstream", observing.log_template),
    "no-tls-redirect-locations": Key("no_tls_redirect_locations", observing.paths),
    "opentelemetry-trust-incoming-span": Key("opentelemetry_trust_incoming_span", boolean),
    "otel-sampler": Key("otel_sampler", observing.sampler),
    "otel-sampler-parent-based": Key("otel_sampler_parent_based", boolean),
    "otel-sampler-ratio": Key("otel_sampler_ratio", observing.ratio),
    "otel-service-name": Key("otel_service_name", str),
    "otlp-collector-host": Key("otlp_collector_host", observing.server_name),
    "otlp-collector-port": Key("otlp_collector_port", observing.port),
    "proxy-add-original-uri-header": Key("proxy_add_original_uri_header", boolean, makes="request"),
    "proxy-protocol-header-timeout": Key("proxy_protocol_header_timeout", seconds(0.1, 300)),
    "proxy-real-ip-cidr": Key("proxy_real_ip_cidr", networks),
    "proxy-set-headers": Key("proxy_set_headers", map_reference, makes="request"),
    "proxy-stream-timeout": Key("stream_timeout", seconds(1, 30 * 86400), makes="idle"),
    "server-tokens": Key("server_tokens", boolean),
    "skip-access-log-urls": Key("skip_access_log_urls", observing.paths),
    "ssl-ciphers": Key("ssl_ciphers", ciphers),
    "ssl-ecdh-curve": Key("ssl_ecdh_curve", tls_terms.curves),
    "ssl-protocols": Key("ssl_protocols", protocols),
    "ssl-redirect": Key("ssl_redirect", boolean, makes="https_redirect"),
    "ssl-reject-handshake": Key("ssl_reject_handshake", boolean),
    "ssl-session-tickets": Key("ssl_session_tickets", boolean),
    "ssl-session-timeout": Key("ssl_session_timeout", seconds(1, 7 * 86400)),
    "use-forwarded-headers": Key("use_forwarded_headers", boolean),
    "use-http2": Key("use_http2", boolean),
    "use-proxy-protocol": Key("use_proxy_protocol", boolean),
    "watch-ingress-without-class": Key("watch_ingress_without_class", boolean),
    "whitelist-source-range": Key("allow_source_range", networks, guards=True, makes="allow"),
}
"""Every key, by its name."""

# A process that any writer of a ConfigMap could have append to any of its files is none to run.
_ELSEWHERE: Final = {"access-log-path": "It is a flag of the proxies: portway proxy --access-log-path."}


def configured(store: ObjectStore, settings: CompileSettings) -> tuple[CompileSettings, list[Problem]]:
    """Return `settings` with what their ConfigMap says instead, and what is wrong with it.

    A ConfigMap that is missing, and each key that cannot be used, leaves what the flags say.
    """
    if not settings.config_map:
        return settings, []
    namespace, _, name = settings.config_map.partition("/")
    found = store.config_maps.get((namespace, name))
    if found is None:
        return settings, [problems.config_map_missing(Origin("ConfigMap", namespace, name))]
    return _read(store, found, settings)


def _read(store: ObjectStore, found: ConfigMap, settings: CompileSettings) -> tuple[CompileSettings, list[Problem]]:
    changes: dict[str, Any] = {}
    tuned: dict[str, float] = {}
    common: dict[str, str] = {}
    noted: list[Problem] = []
    closed = ""
    for name, value in sorted(found.data.items(), key=lambda entry: (entry[0] != tuning.BUFFERS, entry[0])):
        origin = Origin("ConfigMap", found.meta.namespace, found.meta.name, f"data[{name}]")
        key = KEYS.get(name)
        if name in for_all.KEYS:
            common[name] = value
            continue
        if key is None and name not in tuning.KEYS:
            problem = _unread(origin, name, value)
            noted += [] if problem is None else [problem]
            closed = closed or (problem.code if problem is not None and guards(name) else "")
            continue
        try:
            if key is None:
                tuned |= tuning.parse(name, value)
            else:
                changes[key.setting] = key.parse(value)
        except ValueError as error:
            guarding = key is not None and key.guards
            problem = problems.config_value_invalid(origin, value, str(error), guards=guarding)
            noted.append(problem)
            closed = closed or (problem.code if guarding else "")
    noted += resolve_maps(store, found, changes)
    spread, wrong = _for_all(found, common)
    noted += wrong
    closed = closed or next((one.code for one in wrong if for_all.guards(one.origin.field[5:-1])), "")
    said = _readable(found, noted)
    return replace(settings, **changes, **spread, tuning=tuning.settings(tuned), closed=closed, said=said), noted


def _readable(found: ConfigMap, noted: list[Problem]) -> tuple[str, ...]:
    wrong = {problem.origin.field for problem in noted if problem.origin.name == found.meta.name}
    return tuple(name for name in sorted(found.data) if f"data[{name}]" not in wrong)


def _unread(origin: Origin, name: str, value: str) -> Problem | None:
    """Return what to say of a key that sets nothing; nothing where its value asks for what is so anyway."""
    if name in tls_terms.WITHOUT_EFFECT:
        return problems.config_key_idle(origin, tls_terms.WITHOUT_EFFECT[name])
    if is_nginx(name):
        return note_unread(origin, name, value)
    known = sorted((*KEYS, *for_all.KEYS, *tuning.KEYS))
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"Did you mean {close[0]}?" if close else "Remove it; docs/configmap.md lists the keys."
    return problems.config_key_unknown(origin, _ELSEWHERE.get(name, remedy))


def _for_all(found: ConfigMap, said: dict[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return what the keys that are annotations for all come to, and what is wrong with them."""
    changes, wrong = for_all.changes(said)
    noted = []
    for name, sentence in wrong.items():
        origin = Origin("ConfigMap", found.meta.namespace, found.meta.name, f"data[{name}]")
        noted.append(problems.config_value_invalid(origin, said[name], sentence, guards=for_all.guards(name)))
    return changes, noted
