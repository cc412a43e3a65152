"""The annotations of ingress-nginx that are not built, each with the reason: they are never ignored without a word."""

from __future__ import annotations

from collections.abc import Callable

from portway_operator.annotations.fidelity import Fidelity, obsolete, refused
from portway_operator.annotations.rows import Invalid, Row

__all__ = ["UNBUILT"]

_OFF = ("", "false", "False", "FALSE", "f", "F", "0", "off")
_ON = ("true", "True", "TRUE", "t", "T", "1", "on")
_CLOSED = Invalid.CLOSE


def _asks(harmless: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a parser that says whether a value asks for anything."""
    return lambda value: value not in harmless


def _row(
    name: str, doc: str, fidelity: Fidelity, harmless: tuple[str, ...] = _OFF, invalid: Invalid = Invalid.DEFAULT
) -> Row:
    return Row("", _asks(harmless), doc, invalid, (name,), (), fidelity)


def _gone(name: str, words: str, remedy: str, invalid: Invalid = Invalid.DEFAULT) -> Row:
    return _row(
        name, "An annotation that ingress-nginx no longer has, or never had.", obsolete(words, remedy), (), invalid
    )


_SNIPPET = refused(
    "Text of nginx's configuration is never executed.",
    "Write what it does as annotations: more_set_headers as portway.dev/response-headers, rewrite and return as "
    "redirects, allow and deny as source ranges.",
)
_WAF = refused(
    "There is no ModSecurity in Portway, and a firewall that is left out without a word would be worse than none.",
    "Put a firewall before or behind Portway, and remove it.",
)
_FASTCGI = refused("Portway speaks no FastCGI.", "Put a web server before the application, and remove it.")
_TEMPORARY = obsolete("Portway writes no temporary files: bodies pass as they come.", "Remove it.")

_KEPT = obsolete("Connections to the service are always kept, and shared by all.", "Remove it.")

_EXTERNAL_AUTH = (
    _row("auth-snippet", "Text of nginx's configuration for the request to auth-url.", _SNIPPET, (), _CLOSED),
    *(
        _row(name, "How connections to auth-url are kept.", _KEPT, ())
        for name in ("auth-keepalive", "auth-keepalive-requests", "auth-keepalive-timeout", "auth-keepalive-share-vars")
    ),
)

_TLS = (
    _row(
        "ssl-prefer-server-ciphers",
        "Whose order of ciphers counts.",
        obsolete("The proxy's order counts anyway.", "Remove it."),
        _ON,
    ),
)

_RESPONSES = (
    _row(
        "preserve-trailing-slash",
        "Whether a slash at the end of the path stays in redirects to https.",
        obsolete("It stays anyway.", "Remove it."),
        (*_OFF, *_ON),
    ),
)

_PROXYING = (
    *(
        _row(name, "A size of nginx's buffers.", _TEMPORARY, ())
        for name in (
            "proxy-busy-buffers-size",
            "proxy-max-temp-file-size",
        )
    ),
    _row("fastcgi-index", "The file that stands for a folder.", _FASTCGI),
    _row("fastcgi-params-configmap", "A ConfigMap with FastCGI's parameters.", _FASTCGI),
    _row(
        "http2-push-preload",
        "Whether what a page needs is pushed to the client.",
        obsolete("Browsers have given up HTTP/2 push.", "Remove it."),
    ),
)

_OBSERVING = (
    _row(
        "enable-rewrite-log",
        "Whether rewrites are written to the error log.",
        refused("Portway's log tells of each request where it went.", "Look at the access log, and remove it."),
    ),
    _row("enable-modsecurity", "Whether ModSecurity looks at requests.", _WAF, invalid=_CLOSED),
    _row("enable-owasp-core-rules", "Whether ModSecurity has OWASP's rules.", _WAF, invalid=_CLOSED),
    _row("modsecurity-transaction-id", "What ModSecurity calls a request.", _WAF, ("",)),
    _row("modsecurity-snippet", "Rules of ModSecurity.", _WAF, (), _CLOSED),
    _row("configuration-snippet", "Text of nginx's configuration for a path.", _SNIPPET, (), _CLOSED),
    _row("server-snippet", "Text of nginx's configuration for a host.", _SNIPPET, (), _CLOSED),
    _row("stream-snippet", "Text of nginx's configuration for TCP.", _SNIPPET, ()),
)

_MISPLACED = "It is a key of the ConfigMap, and never was an annotation."
_OBSOLETE = (
    _gone("secure-backends", "ingress-nginx has removed it.", "Use backend-protocol: HTTPS."),
    _gone("grpc-backend", "ingress-nginx has removed it.", "Use backend-protocol: GRPC."),
    _gone("secure-verify-ca-secret", "ingress-nginx has removed it.", "Use proxy-ssl-secret.", _CLOSED),
    _gone("add-base-url", "ingress-nginx has removed it.", "Have the application write its own base URL."),
    _gone("base-url-scheme", "ingress-nginx has removed it.", "Have the application write its own base URL."),
    _gone("session-cookie-hash", "ingress-nginx has removed it.", "Remove it."),
    _gone("enable-influxdb", "ingress-nginx has removed it.", "Scrape the metrics."),
    _gone("lua-resty-waf", "ingress-nginx has removed it.", "Put a firewall before or behind Portway.", _CLOSED),
    _gone(
        "global-rate-limit", "ingress-nginx has removed it.", "Use limit-rps or limit-rpm, which count in each proxy."
    ),
    _gone("global-rate-limit-window", "ingress-nginx has removed it.", "Use limit-rps or limit-rpm."),
    _gone("global-rate-limit-key", "ingress-nginx has removed it.", "Use limit-rps or limit-rpm."),
    _gone("global-rate-limit-ignored-cidrs", "ingress-nginx has removed it.", "Use limit-allowlist."),
    _gone("enable-opentracing", "ingress-nginx has removed it.", "Use enable-opentelemetry."),
    _gone("opentracing-trust-incoming-span", "ingress-nginx has removed it.", "Use opentelemetry-trust-incoming-span."),
    _gone("enable-websockets", "It never was there: WebSockets pass without it.", "Remove it."),
    _gone("use-forwarded-headers", _MISPLACED, "Set it there."),
    _gone("client-header-buffer-size", _MISPLACED, "Remove it."),
    _gone("large-client-header-buffers", _MISPLACED, "Remove it."),
)

UNBUILT: tuple[Row, ...] = (
    *_EXTERNAL_AUTH,
    *_TLS,
    *_RESPONSES,
    *_PROXYING,
    *_OBSERVING,
    *_OBSOLETE,
)
"""Rows without a field."""
