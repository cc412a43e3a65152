"""How TLS is spoken, as the ConfigMap has it: ingress-nginx's keys, for all proxies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from portway_operator.settings import CompileSettings
from portway_proxy.tls_terms import TlsTerms

__all__ = ["WITHOUT_EFFECT", "curves", "redirect_code", "terms_of"]

_CURVES: Final = re.compile(r"[A-Za-z0-9-]{1,32}(?::[A-Za-z0-9-]{1,32}){0,15}")
_CODE: Final = re.compile(r"30[1278]")

_SPLIT: Final = "Each worker has its own, for clients of TLS 1.2 that know no tickets."
_STAPLING: Final = "Nothing is asked of authorities: what is to be stapled stands in the Secret, as tls.ocsp-staple."

WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "enable-ocsp": _STAPLING,
    "ssl-buffer-size": "OpenSSL chooses the size of records.",
    "ssl-dh-param": "Key exchanges are those of elliptic curves.",
    "ssl-early-data": "A request that whoever heard it may send again is not taken before the handshake is over.",
    "ssl-prefer-server-ciphers": "OpenSSL goes by the server's order.",
    "ssl-session-cache": _SPLIT,
    "ssl-session-cache-size": _SPLIT,
    "ssl-session-ticket-key": "Each proxy makes its own keys, which its workers share, and changes them twice a day.",
}
"""The keys that Portway knows and has nothing to set by, each with the reason."""


def terms_of(settings: CompileSettings, host_ciphers: Mapping[str, str]) -> TlsTerms | None:
    """Return what proxies are told, or None when it is as usual; `host_ciphers` are those of hosts with their own."""
    terms = TlsTerms(
        protocols=settings.ssl_protocols,
        ciphers=settings.ssl_ciphers,
        curves=settings.ssl_ecdh_curve,
        tickets=settings.ssl_session_tickets,
        session_timeout=int(settings.ssl_session_timeout),
        reject_unknown=settings.ssl_reject_handshake,
        hsts=_hsts(settings),
        redirect=settings.http_redirect_code,
        plain_paths=settings.no_tls_redirect_locations,
        host_ciphers=tuple(sorted(host_ciphers.items())),
        http2=settings.use_http2,
    )
    return None if terms == TlsTerms() else terms


def curves(text: str) -> str:
    """Return a list of curves as OpenSSL has it, empty for `auto`; raises ValueError for what can be none."""
    if not _CURVES.fullmatch(text):
        raise ValueError("it is no list of curves such as X25519:prime256v1")
    return "" if text == "auto" else text


def redirect_code(text: str) -> int:
    """Return the status of redirects to https; raises ValueError."""
    if not _CODE.fullmatch(text):
        raise ValueError("it is none of 301, 302, 307 and 308")
    return int(text)


def _hsts(settings: CompileSettings) -> str:
    if not settings.hsts:
        return ""
    parts = [f"max-age={settings.hsts_max_age}"]
    parts += ["includeSubDomains"] if settings.hsts_include_subdomains else []
    parts += ["preload"] if settings.hsts_preload else []
    return "; ".join(parts)
