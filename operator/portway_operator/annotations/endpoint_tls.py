"""The annotations of an Ingress about TLS to its endpoints; one that cannot be read lets nobody through."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import Invalid, row
from portway_operator.parse import count, object_reference, switch
from portway_operator.parse_http import certificate_name
from portway_operator.parse_tls import ciphers, protocols

__all__ = ["EndpointTlsAnnotations"]

_ALONE = close("It counts without proxy-ssl-secret too, where ingress-nginx ignores it.")


@dataclass(frozen=True)
class EndpointTlsAnnotations:
    """What the annotations of an Ingress say about TLS to endpoints."""

    proxy_ssl_secret: str = row(
        "proxy-ssl-secret",
        object_reference,
        default="",
        makes="tls",
        doc="The Secret for TLS to endpoints, as `name`, or `namespace/name` where that is the Ingress's own "
        "namespace: the certificate and key that they are shown (`tls.crt`, `tls.key`), the authorities by which "
        "they are verified (`ca.crt`) and perhaps lists of revoked certificates (`ca.crl`).",
        invalid=Invalid.CLOSE,
        nginx="proxy-ssl-secret",
    )
    proxy_ssl_verify: bool = row(
        "proxy-ssl-verify",
        switch,
        default=False,
        makes="tls",
        doc="`on`: an endpoint that does not show a good certificate gets no request, its clients 502. Without "
        "`ca.crt` in the Secret the authorities of the system are believed.",
        invalid=Invalid.CLOSE,
        nginx="proxy-ssl-verify",
        fidelity=_ALONE,
    )
    proxy_ssl_verify_depth: int = row(
        "proxy-ssl-verify-depth",
        count(0, 100),
        default=1,
        makes="tls",
        doc="How many certificates may stand between an endpoint's and the authority's.",
        invalid=Invalid.CLOSE,
        nginx="proxy-ssl-verify-depth",
        requires=("proxy_ssl_verify",),
    )
    proxy_ssl_name: str = row(
        "proxy-ssl-name",
        certificate_name,
        default="",
        makes="tls",
        doc="The name or address that certificates of endpoints must have, and that endpoints are told. Without it, "
        "`SERVICE.NAMESPACE.svc`, or the external name of an ExternalName Service.",
        invalid=Invalid.CLOSE,
        nginx="proxy-ssl-name",
        requires=("proxy_ssl_verify", "proxy_ssl_server_name"),
        fidelity=close("Without it, ingress-nginx expects a name that no certificate has."),
    )
    proxy_ssl_server_name: bool = row(
        "proxy-ssl-server-name",
        switch,
        default=False,
        makes="tls",
        doc="`on`: endpoints are told the name (SNI). Servers of external names always are.",
        nginx="proxy-ssl-server-name",
        fidelity=_ALONE,
    )
    proxy_ssl_protocols: tuple[str, ...] = row(
        "proxy-ssl-protocols",
        protocols,
        default=(),
        makes="tls",
        doc="The versions of TLS to endpoints (`TLSv1.2 TLSv1.3`); older ones are left out beside newer.",
        invalid=Invalid.CLOSE,
        nginx="proxy-ssl-protocols",
        fidelity=close("TLSv1.1 and older are not spoken."),
    )
    proxy_ssl_ciphers: str = row(
        "proxy-ssl-ciphers",
        ciphers,
        default="",
        makes="tls",
        doc="The ciphers of TLS 1.2 to endpoints, as OpenSSL lists them.",
        invalid=Invalid.CLOSE,
        nginx="proxy-ssl-ciphers",
    )

    @property
    def asks_of_tls(self) -> bool:
        """Whether they say anything about TLS to endpoints."""
        names = (self.proxy_ssl_secret, self.proxy_ssl_name, self.proxy_ssl_ciphers, self.proxy_ssl_protocols)
        return self.proxy_ssl_verify or self.proxy_ssl_server_name or any(names)
