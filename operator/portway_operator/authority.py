"""The operator's own certificate authority: what proxies trust, and what proves to them, and to us, who is who.

Certificates are made and judged here, as values; `authority_store` keeps them in the cluster.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["LEAF_LIFE", "Authority", "BadAuthority", "Pair", "names_of"]

LEAF_LIFE: Final = datetime.timedelta(hours=24)
"""How long the certificates of operators and proxies live; they are renewed at half of it."""

_LIFE: Final = datetime.timedelta(days=90)
_RENEW: Final = datetime.timedelta(days=30)  # Left of its life when an authority gets a successor.

# The kubelet brings a changed ConfigMap to a pod within two minutes; a proxy reads it when it connects.
_INTRODUCTION: Final = datetime.timedelta(days=1)
_SKEW: Final = datetime.timedelta(minutes=5)  # Clocks differ.

_CURRENT: Final = ("tls.crt", "tls.key")
_NEXT: Final = ("next.crt", "next.key")
_PAST: Final = "past.crt"


class BadAuthority(Exception):
    """What was kept is no authority; the message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    def load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Return both; raises `BadAuthority` when they are unreadable, of another kind or do not belong together."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate)
            key = serialization.load_pem_private_key(self.key, None)
        except (ValueError, TypeError):
            raise BadAuthority("it holds no readable certificate and key") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise BadAuthority("its key does not belong to its certificate")
        return certificate, key


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs now (`current`), who will (`next`, known to proxies a day ahead), and who did (`past`, PEM)."""

    current: Pair
    next: Pair | None = None
    past: bytes = b""

    @classmethod
    def create(cls, now: datetime.datetime) -> Self:
        """Return a new authority."""
        return cls(_sign_itself(now))

    @classmethod
    def of_data(cls, data: Mapping[str, bytes]) -> Self | None:
        """Return what `data` made, None when there is nothing yet; raises `BadAuthority`."""
        if not any(data.values()):
            return None
        if not data.get(_CURRENT[0]):
            raise BadAuthority("it holds something else")
        found = cls(_pair(data, _CURRENT), _pair(data, _NEXT) if data.get(_NEXT[0]) else None, data.get(_PAST, b""))
        found.current.load()
        if found.next is not None:
            found.next.load()
        return found

    def data(self) -> dict[str, bytes]:
        """Return it as the data of a Secret; `ca.crt` is the bundle."""
        data = {_CURRENT[0]: self.current.certificate, _CURRENT[1]: self.current.key, "ca.crt": self.bundle}
        if self.next is not None:
            data |= {_NEXT[0]: self.next.certificate, _NEXT[1]: self.next.key}
        return data | ({_PAST: self.past} if self.past else {})

    @property
    def bundle(self) -> bytes:
        """Return everybody whom a proxy must trust (PEM)."""
        return self.current.certificate + (self.next.certificate if self.next is not None else b"") + self.past

    def advance(self, now: datetime.datetime) -> Authority:
        """Return what it should be now: with a successor in time, which takes over once everybody knows it."""
        certificate, _ = self.current.load()
        if certificate.not_valid_after_utc <= now:
            # Nobody saw to it for a month. Who trusts only this one has to wait for the new bundle anyway.
            return Authority.create(now)
        past = _unexpired(self.past, now)
        if self.next is None:
            due = certificate.not_valid_after_utc - _RENEW <= now
            return replace(self, past=past, next=_sign_itself(now) if due else None)
        known_since = self.next.load()[0].not_valid_before_utc + _SKEW
        if known_since + _INTRODUCTION <= now:
            return Authority(self.next, None, self.current.certificate + past)
        return replace(self, past=past)

    def issue(self, names: Iterable[str], now: datetime.datetime) -> Pair:
        """Return a certificate for a day, good on both ends of a connection; `names` are DNS names and IP addresses."""
        issuer, issuer_key = self.current.load()
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [_general(name) for name in names]
        end = min(now + LEAF_LIFE, issuer.not_valid_after_utc)
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectAlternativeName(alternatives), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
        ]
        builder = _builder(x509.Name([]), issuer.subject, key, now, end)
        return _signed(builder, extensions, issuer_key, key)


def names_of(service: str, namespace: str) -> tuple[str, ...]:
    """Return every name by which pods reach a Service."""
    short = f"{service}.{namespace}"
    return (service, short, f"{short}.svc", f"{short}.svc.cluster.local")


def _sign_itself(now: datetime.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # With its day: OpenSSL looks up issuers by name, and there may be two.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Portway authority {now:%Y-%m-%d %H:%M:%S}")])
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]
    return _signed(_builder(name, name, key, now, now + _LIFE), extensions, key, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(end)
    )


def _signed(
    builder: x509.CertificateBuilder,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
) -> Pair:
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), private)


def _usage(*, digital_signature: bool = False, sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(data: Mapping[str, bytes], names: tuple[str, str]) -> Pair:
    return Pair(data[names[0]], data.get(names[1], b""))


def _unexpired(bundle: bytes, now: datetime.datetime) -> bytes:
    if not bundle:
        return b""
    try:
        found = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return b""
    kept = [certificate for certificate in found if certificate.not_valid_after_utc > now]
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in kept)
