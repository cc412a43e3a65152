"""Templates of access lines: text with nginx's variables, among them those of ingress-nginx."""

from __future__ import annotations

import difflib
import re
from enum import StrEnum
from typing import Final

__all__ = ["FORMATS", "INGRESS_NGINX", "PREFIXES", "VARIABLES", "Escape", "Part", "check", "parse", "unknown"]

INGRESS_NGINX: Final = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr "
    "$upstream_response_length $upstream_response_time $upstream_status $req_id"
)
"""The line that ingress-nginx writes when nobody says otherwise."""

FORMATS: Final = ("text", "json", "ingress-nginx")
"""The formats that have a name; every other one is a template."""

_NAME: Final = re.compile(r"\$(?:\{([a-z0-9_]+)\}|([a-z0-9_]+))", re.IGNORECASE)

VARIABLES: Final = {
    "args": "what follows the ? of the request's target; query_string is the same",
    "body_bytes_sent": "bytes of the response's body",
    "bytes_sent": "bytes of the response, its head included",
    "content_length": "the request's Content-Length",
    "content_type": "the request's Content-Type",
    "host": "the host that the request is for: lower-case, without a port",
    "hostname": "this proxy's name (`--node`)",
    "https": "on for a request that came over TLS",
    "ingress_name": "the Ingress of the route",
    "is_args": "? when the target has one",
    "location_path": "the path of the route",
    "msec": "when the request ended, seconds since the epoch, with milliseconds",
    "namespace": "the namespace of the route's Ingress",
    "opentelemetry_span_id": "the span, of a request that is traced",
    "opentelemetry_trace_id": "the trace, of a request that is traced",
    "pid": "the worker's process",
    "portway_reason": "the reason code of an answer that the proxy made itself",
    "proxy_alternative_upstream_name": "empty: there is none",
    "proxy_upstream_name": "namespace-service-port of the upstream",
    "query_string": "args",
    "remote_addr": "the client's address",
    "remote_user": "the user of Basic authentication, as the client says",
    "req_id": "the request's id, as X-Request-ID says or we made it",
    "request": "the request line",
    "request_id": "req_id",
    "request_length": "bytes of the request, its head included",
    "request_method": "the method",
    "request_time": "seconds from the request's head to the end of its response",
    "request_uri": "the target as the client sent it",
    "scheme": "http or https",
    "server_name": "host",
    "server_protocol": "HTTP/1.1 or HTTP/1.0",
    "service_name": "the Service of the route",
    "service_port": "its port",
    "status": "the response's status",
    "time_iso8601": "when the request ended: 2006-01-02T15:04:05+00:00",
    "time_local": "when the request ended: 02/Jan/2006:15:04:05 +0000",
    "upstream_addr": "the endpoints that were tried, the last one answered",
    "upstream_connect_time": "seconds that connecting took; 0.000 where there was a connection",
    "upstream_header_time": "seconds from sending the request to the head of the response",
    "upstream_response_length": "bytes of the body that the endpoint sent",
    "upstream_response_time": "seconds from sending the request to the end of the response",
    "upstream_status": "the status of each endpoint's response, or what its failure came to",
    "uri": "the path that decided the route",
}
"""Every variable and what it says."""

PREFIXES: Final = {
    "arg_": "a parameter of the target's query",
    "cookie_": "a cookie of the request",
    "http_": "a field of the request, such as http_user_agent",
    "sent_http_": "a field of the endpoint's response; upstream_http_ is the same",
    "upstream_http_": "sent_http_",
}
"""How the names of variables begin whose rest is a name of the request or the response, and what they say."""

Part = tuple[str, str]
"""Text that is written as it is, and the variable after it; empty for none."""


class Escape(StrEnum):
    r"""How what clients and endpoints sent is written: `default` as \xXX, `json` as within quotes of JSON.

    `none` leaves everything but control characters as it came.
    """

    DEFAULT = "default"
    JSON = "json"
    NONE = "none"


def parse(template: str) -> list[Part]:
    """Return the parts of `template`; `$name` and `${name}` are variables, in any case."""
    parts = []
    at = 0
    for found in _NAME.finditer(template):
        parts.append((template[at : found.start()], (found[1] or found[2]).lower()))
        at = found.end()
    return [*parts, (template[at:], "")]


def unknown(template: str) -> list[str]:
    """Return a sentence for each variable of `template` that there is not; its lines say `-` there."""
    names = dict.fromkeys(name for _, name in parse(template) if name and not _known(name))
    return [_sentence(name) for name in names]


def check(log_format: str) -> None:
    """Raise ValueError with what is wrong when `log_format` is neither a name of `FORMATS` nor a template."""
    if log_format in FORMATS:
        return
    if "$" not in log_format:
        raise ValueError(f"{log_format!r} is none of {', '.join(FORMATS)}, nor a template: it names no $variable")
    if any(not sign.isprintable() for sign in log_format):
        raise ValueError("a template is one line, without control characters")
    sentences = unknown(log_format)
    if sentences:
        raise ValueError(" ".join(sentences))


def _known(name: str) -> bool:
    return name in VARIABLES or any(name.startswith(prefix) and name != prefix for prefix in PREFIXES)


def _sentence(name: str) -> str:
    close = difflib.get_close_matches(name, VARIABLES, n=1)
    return f"There is no variable ${name}." + (f" Did you mean ${close[0]}?" if close else "")
