"""Certificates by name: which one a TLS client gets, and the contexts that serve them.

A context is made when its name is first asked for (about 1 ms and 20 KiB) and kept while its certificate is
unchanged. Keys reach OpenSSL through a memfd, never through a file on disk.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterable
from typing import Final

from portway_proxy.channel import store
from portway_proxy.snapshot import Certificate

__all__ = ["CertificateStore", "self_signed"]

_log = logging.getLogger(__name__)

_PROTOCOLS: Final = ["http/1.1"]


class CertificateStore:
    """The certificates of a worker.

    `context` is for the listening socket: in the handshake it hands over to the context of the certificate for the
    name that the client asks for (SNI), or serves the built-in certificate itself.
    """

    def __init__(self, chain: bytes, key: bytes) -> None:
        """Take the built-in certificate (PEM), which serves until a snapshot names another as the default.

        Raises `ssl.SSLError` when it does not load.
        """
        self.context = _context(chain, key)
        # The first word on what a name gets is said before the certificate is chosen.
        self.context.sni_callback = self._choose
        self._hosts: dict[str, Certificate] = {}
        self._default: Certificate | None = None
        self._contexts: dict[str, tuple[Certificate, ssl.SSLContext]] = {}

    def update(self, certificates: Iterable[Certificate], default: str) -> None:
        """Serve `certificates` from the next handshake on; `default` names the one for all other names, or is empty.

        Connections that exist keep what they have.
        """
        known = {certificate.name: certificate for certificate in certificates}
        # Two certificates for one host: the first one by name, on every worker and after every restart.
        self._hosts = {host: known[name] for name in sorted(known, reverse=True) for host in known[name].hosts}
        self._default = known.get(default)
        self._contexts = {
            name: (served, context)
            for name, (served, context) in self._contexts.items()
            if (new := known.get(name)) is not None and new.chain == served.chain and new.key == served.key
        }

    def find(self, name: str | None) -> Certificate | None:
        """Return the certificate for the name (case and a trailing dot do not count), or None for the built-in one.

        An exact host goes before a wildcard of one label, and that before the default.
        """
        if name:
            name = name.lower().removesuffix(".")
            found = self._hosts.get(name) or self._hosts.get("*." + name.partition(".")[2])
            if found is not None:
                return found
        return self._default

    def context_for(self, name: str | None) -> ssl.SSLContext:
        """Return the context that serves `name`; that of the default when the name's certificate does not load."""
        certificate = self.find(name)
        context = self._load(certificate)
        if context is None and certificate is not self._default:
            context = self._load(self._default)
        return context or self.context

    def _load(self, certificate: Certificate | None) -> ssl.SSLContext | None:
        if certificate is None:
            return None
        kept = self._contexts.get(certificate.name)
        if kept is not None:
            return None if kept[1] is self.context else kept[1]
        try:
            context = _context(certificate.chain, certificate.key)
        except (ssl.SSLError, ValueError, OSError) as error:
            _log.error(
                "certificate %s does not load (%s); its names get the default certificate", certificate.name, error
            )
            # Remembered as served by the built-in one, or every handshake would try again.
            self._contexts[certificate.name] = certificate, self.context
            return None
        self._contexts[certificate.name] = certificate, context
        return context

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _initial: ssl.SSLContext) -> None:
        connection.context = self.context_for(name)


def self_signed() -> tuple[bytes, bytes]:
    """Return the chain and key (PEM) of a new certificate that nobody trusts, for names that have none.

    For the supervisor: it loads a library that costs a worker 15 MB.
    """
    # Loaded here, because every worker imports this module.
    import datetime  # noqa: PLC0415

    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Portway default certificate")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("portway.invalid")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _context(chain: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    fd = store(chain + b"\n" + key)
    try:
        # Without a password of ours OpenSSL would ask for one at the terminal and wait.
        context.load_cert_chain(f"/proc/self/fd/{fd}", password="")
    finally:
        os.close(fd)
    return context
