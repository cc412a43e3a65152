"""How endpoints are spoken to over TLS: annotations of an Ingress, and the Secret that they name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography import x509

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.certificates import pair_in
from portway_operator.compile.client_certificates import own_namespace
from portway_operator.objects import Fault, Ingress, Secret, Service
from portway_operator.problems import Origin, Problem, at
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import EndpointTls, Keyring, Protocol, Upstream

__all__ = ["EndpointSecrets", "endpoint_tls", "keyrings"]

Key = tuple[str, str]

_PARTS = ("ca.crt", "ca.crl", "tls.crt", "tls.key")


class EndpointSecrets:
    """Notes which Secrets Ingresses name for TLS to endpoints: `secrets`, by namespace and name."""

    __slots__ = ("secrets",)

    def __init__(self) -> None:
        self.secrets: set[Key] = set()

    def read(self, ingress: Ingress, values: IngressAnnotations) -> None:
        """Note the one that an Ingress with these annotations names, if it does."""
        key = own_namespace(values.proxy_ssl_secret, ingress) if values.proxy_ssl_secret else None
        if key is not None:
            self.secrets.add(key)


def endpoint_tls(
    upstream: Upstream, service: Service, ingress: Ingress, values: IngressAnnotations, secret: Secret | None
) -> EndpointTls | Problem | None:
    """Return the terms that the annotations of `ingress` ask for, None for the usual, or why nobody may pass.

    `secret` is the one that they name, if it is there. The problem is a notice where they have no effect.
    """
    if not values.asks_of_tls:
        return None
    if upstream.protocol not in (Protocol.HTTPS, Protocol.H2):
        return problems.endpoint_tls_idle(at(ingress, "metadata.annotations"), upstream.name)
    keyring = ""
    if values.proxy_ssl_secret:
        origin = at(ingress, f"metadata.annotations[{key_of(ingress, rows(IngressAnnotations)['proxy_ssl_secret'])}]")
        if (problem := _problem(ingress, values.proxy_ssl_secret, secret, origin)) is not None:
            return problem
        keyring = "" if secret is None else _name(secret)
    return EndpointTls(
        name=values.proxy_ssl_name or service.external_name or f"{service.meta.name}.{service.meta.namespace}.svc",
        verify=values.proxy_ssl_verify,
        depth=values.proxy_ssl_verify_depth,
        told=values.proxy_ssl_server_name,
        keyring=keyring,
        protocols=values.proxy_ssl_protocols,
        ciphers=values.proxy_ssl_ciphers,
    )


def keyrings(store: ObjectStore, upstreams: Iterable[Upstream]) -> tuple[Keyring, ...]:
    """Return the keyrings that these upstreams name, sorted by name."""
    named = {upstream.tls.keyring for upstream in upstreams if upstream.tls is not None}
    return tuple(_keyring(store, name) for name in sorted(named - {""}))


def _keyring(store: ObjectStore, name: str) -> Keyring:
    namespace, _, secret = name.rpartition("@")[0].partition("/")
    data = store.secrets[namespace, secret].data
    return Keyring(name, *(data.get(part, b"") for part in _PARTS))


def _name(secret: Secret) -> str:
    # By another name when anything changes: connections that were made before are of no further use.
    content = hashlib.sha256(b"\0".join(secret.data.get(part, b"") for part in _PARTS)).hexdigest()[:16]
    return f"{'/'.join(secret.meta.key)}@{content}"


def _problem(ingress: Ingress, named: str, secret: Secret | None, origin: Origin) -> Problem | None:
    key = own_namespace(named, ingress)
    if key is None:
        return problems.auth_secret_foreign(origin, named, ingress.meta.namespace)
    if secret is None:
        return problems.auth_secret_missing(origin, *key)
    fault = _fault(secret)
    return problems.endpoint_secret_unusable(origin, secret.meta.name, fault) if fault else None


def _fault(secret: Secret) -> str:
    """Return a sentence that says why a Secret cannot be used, or nothing."""
    ca, crl, chain, key = (secret.data.get(part, b"") for part in _PARTS)
    if not (ca or chain or key):
        return "It has neither ca.crt nor tls.crt and tls.key."
    if chain or key:
        pair = pair_in(secret)
        if isinstance(pair, Fault):
            return pair.found
    try:
        if ca:
            x509.load_pem_x509_certificates(ca)
    except ValueError:
        return "ca.crt holds no PEM certificate that can be read."
    try:
        if crl:
            x509.load_pem_x509_crl(crl)
    except ValueError:
        return "ca.crl holds no PEM list of revoked certificates that can be read."
    return ""
