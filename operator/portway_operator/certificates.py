"""Reads the certificate and the key of a TLS Secret, or says why they cannot be used. No text here quotes a key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import ocsp

from portway_operator.objects import Fault, Secret

__all__ = ["CertificateReader", "KeyPair", "covers", "pair_in"]

Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_TLS_SECRET = "kubernetes.io/tls"  # noqa: S105 - a type, no password
_DAY = 86_400
_RSA_BITS = 2048  # OpenSSL's security level 2, which Debian and Python's default context ask for.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # The curves of TLS 1.3.
_WEAK_HASHES = ("md5", "sha1")
_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.DOTALL)
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?)*")
_REMEDY = (
    "Give the Secret a PEM chain in tls.crt, the host's certificate first, and its unencrypted PEM key in tls.key."
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and its key (PEM, written anew), and what the certificate says.

    `names` are its DNS names, lower-case and sorted. `not_after` is in seconds since the epoch. `kind` is that of the
    key: clients that know no certificate of one kind may know one of another. `staple` is an OCSP response for it
    (DER), good until `staple_until` (seconds since the epoch); `staple_fault` says why there is none, where there
    should be.
    """

    chain: bytes
    key: bytes = field(repr=False)
    names: tuple[str, ...]
    not_after: int
    kind: str = ""
    staple: bytes = b""
    staple_until: int = 0
    staple_fault: str = ""

    def expired(self, today: int) -> bool:
        """Return whether its time is over on the day `today` since the epoch; never where that is 0, for unknown."""
        return self.not_after < today * _DAY


class CertificateReader:
    """Reads the key pairs of Secrets and remembers the result for as long as a Secret's data stays the same.

    Of a Secret that turns bad, or whose next certificate has expired, what was read of it before stays in use.
    """

    __slots__ = ("_good", "_read")

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], tuple[Secret, KeyPair | Fault]] = {}
        # Of Secrets whose newest version is bad, has expired, or was not asked for yet.
        self._good: dict[tuple[str, str], KeyPair] = {}

    def read(self, secret: Secret) -> KeyPair | Fault:
        """Return the key pair, or the fault that keeps it from being used."""
        seen = self._read.get(secret.meta.key)
        if seen is not None and (seen[0] is secret or (seen[0].data == secret.data and seen[0].type == secret.type)):
            return seen[1]
        if secret.type == _TLS_SECRET:
            found = pair_in(secret)
        else:
            found = _fault(f"It is of type {secret.type!r}, not {_TLS_SECRET}.", "secret_malformed")
        self._read[secret.meta.key] = (secret, found)
        return found

    def find(self, secret: Secret, today: int = 0) -> KeyPair | None:
        """Return the key pair to serve on the day `today` since the epoch; 0 is unknown.

        That is the Secret's, or the one that it had before it turned bad, or was given one that has expired.
        """
        found, before = self.read(secret), self._good.get(secret.meta.key)
        if isinstance(found, KeyPair) and (before is None or before.expired(today) or not found.expired(today)):
            # Whoever put this one in its place may have had a reason never to see that again.
            self._good.pop(secret.meta.key, None)
            return found
        return before

    def learn(self, other: CertificateReader, secrets: Mapping[tuple[str, str], Secret]) -> None:
        """Remember what `other` read of those of `secrets` that are still as they were then, and what was good."""
        self._good.update({key: pair for key, pair in other._good.items() if key in secrets})
        for key, seen in other._read.items():
            secret, found = seen
            if secrets.get(key) is secret:
                self._read[key] = seen
                if key not in other._good:
                    self._good.pop(key, None)
            elif isinstance(found, KeyPair) and key in secrets:
                self._good[key] = other._good.get(key, found)

    def outdate(self, namespace: str, name: str) -> None:
        """Note that there is another version of a Secret; what was good of it stays in use until that is read."""
        seen = self._read.pop((namespace, name), None)
        if seen is not None and isinstance(seen[1], KeyPair):
            self._good.setdefault((namespace, name), seen[1])

    def forget(self, namespace: str, name: str) -> None:
        """Drop what was remembered of a Secret."""
        self._read.pop((namespace, name), None)
        self._good.pop((namespace, name), None)


def pair_in(secret: Secret) -> KeyPair | Fault:
    """Return the key pair in a Secret of any type, or the fault that keeps it from being used."""
    try:
        return _key_pair(secret)
    except _Unusable as unusable:
        return _fault(unusable.found, unusable.code)
    except Exception as error:  # noqa: BLE001 - tenants write what is parsed here; the fault names the error
        return _fault(f"It cannot be read ({type(error).__name__}).", "secret_malformed")


def _fault(found: str, code: str) -> Fault:
    return Fault("data", code, found, "", _REMEDY)


def covers(names: Sequence[str], host: str) -> bool:
    """Return whether a certificate with these names is good for `host`; a wildcard stands for one label."""
    return host in names or f"*.{host.partition('.')[2]}" in names


class _Unusable(Exception):
    """A Secret without a usable key pair."""

    def __init__(self, found: str, code: str = "secret_malformed") -> None:
        super().__init__(found)
        self.found = found
        self.code = code


def _key_pair(secret: Secret) -> KeyPair:
    for part in ("tls.crt", "tls.key"):
        if not secret.data.get(part):
            why = next((f"{fault.field}: {fault.found}" for fault in secret.faults if part in fault.field), "")
            raise _Unusable(why or f"It has no {part}.")
    chain = _chain(secret.data["tls.crt"])
    key = _key(secret.data["tls.key"])
    owner = key.public_key()
    matching = [index for index, certificate in enumerate(chain) if certificate.public_key() == owner]
    if not matching:
        raise _Unusable("The key in tls.key does not belong to the certificate in tls.crt.", "key_mismatch")
    if matching[0]:
        raise _Unusable("The certificate of the key is not the first one in tls.crt.", "key_mismatch")
    staple = secret.data.get("tls.ocsp-staple", b"")
    try:
        until, fault = _good_until(staple, chain[0]) if staple else 0, ""
    except ValueError as error:
        staple, until, fault = b"", 0, str(error)
    return KeyPair(
        chain=b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        names=_names(chain[0]),
        not_after=int(chain[0].not_valid_after_utc.timestamp()),
        kind=_kind(key),
        staple=staple,
        staple_until=until,
        staple_fault=fault,
    )


def _good_until(response: bytes, certificate: x509.Certificate) -> int:
    """Return until when an OCSP response vouches for the certificate; raises ValueError with why it does not."""
    try:
        found = ocsp.load_der_ocsp_response(response)
        vouches = found.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
        serial, status = (found.serial_number, found.certificate_status) if vouches else (0, None)
        until = found.next_update_utc if vouches else None
    except ValueError:
        raise ValueError("It is no OCSP response (DER) about one certificate.") from None
    if not vouches:
        raise ValueError("Its authority gave no answer.")
    if serial != certificate.serial_number:
        raise ValueError("It is about another certificate.")
    if status is not ocsp.OCSPCertStatus.GOOD:
        raise ValueError("It does not say that the certificate is good.")
    if until is None:
        raise ValueError("It does not say until when it counts.")
    return int(until.timestamp())


def _chain(pem: bytes) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(pem)
        for certificate in chain:
            self_signed = certificate.issuer == certificate.subject
            hashed = certificate.signature_hash_algorithm
            if hashed is not None and hashed.name in _WEAK_HASHES and not self_signed:
                raise _Unusable(f"A certificate in tls.crt is signed with {hashed.name}, which TLS clients refuse.")
    except (ValueError, UnsupportedAlgorithm):
        raise _Unusable("tls.crt holds no PEM certificate that can be read.") from None
    return chain


def _key(pem: bytes) -> Key:
    block = _KEY_BLOCK.search(pem)
    if block is None:
        raise _Unusable("tls.key holds no PEM private key.")
    try:
        # OpenSSL's own validation of an RSA key takes 30 ms; `_consistent` is all of it but the test for primes.
        key = load_pem_private_key(block[0], None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise _Unusable("The key in tls.key is encrypted.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _Unusable("tls.key holds no PEM private key that can be read.") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise _Unusable("The key in tls.key is neither RSA, ECDSA nor Ed25519.")
    _check_strength(key)
    return key


def _kind(key: Key) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePrivateKey) else "Ed25519"


def _check_strength(key: Key) -> None:
    if isinstance(key, rsa.RSAPrivateKey) and (key.key_size < _RSA_BITS or not _consistent(key)):
        raise _Unusable(f"The RSA key in tls.key is broken or has less than {_RSA_BITS} bits.")
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in _CURVES:
        raise _Unusable(f"The key in tls.key is on the curve {key.curve.name}, which TLS clients do not know.")


def _consistent(key: rsa.RSAPrivateKey) -> bool:
    numbers = key.private_numbers()
    p, q, d, e, n = numbers.p, numbers.q, numbers.d, numbers.public_numbers.e, numbers.public_numbers.n
    return (
        p * q == n
        and all(number & 1 for number in (p, q, e))
        and all(number > 1 for number in (p, q, e))
        and numbers.dmp1 == d % (p - 1)
        and numbers.dmq1 == d % (q - 1)
        and numbers.dmp1 * e % (p - 1) == 1
        and numbers.dmq1 * e % (q - 1) == 1
        and numbers.iqmp * q % p == 1
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names; the common name counts only when there are none, as clients once did."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        found: list[str] = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        found = [str(attribute.value) for attribute in common]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        found = []
    lowered = {name.lower() for name in found if name.isascii()}
    return tuple(sorted(name for name in lowered if _NAME.fullmatch(name)))
