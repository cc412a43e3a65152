"""Certificates for tests, made on the spot."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509 import ocsp

from portway_proxy.snapshot import Certificate


def issue(*hosts: str, password: bytes = b"", rsa: bool = False, days: int = 30) -> tuple[bytes, bytes]:
    """Return chain and key (PEM) of a self-signed certificate for `hosts`, with the key encrypted by `password`.

    It is good for so many `days`; a negative number: it expired so many days ago.
    """
    key = generate_private_key(65537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=min(0, days), hours=-1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
    )


def certificate(name: str, *hosts: str) -> Certificate:
    """Return a certificate of the contract, named `name`, for `hosts`."""
    chain, key = issue(*hosts)
    return Certificate(name, hosts, chain, key, 2_000_000_000)


def staple(
    chain: bytes, key: bytes, *, status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD, days: float | None = 1
) -> bytes:
    """Return an OCSP response (DER) about a self-signed certificate, good for so many days; None does not say it."""
    about = x509.load_pem_x509_certificate(chain)
    signer = serialization.load_pem_private_key(key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey | RSAPrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    until = None if days is None else now + datetime.timedelta(days=days)
    revoked = now if status is ocsp.OCSPCertStatus.REVOKED else None
    builder = ocsp.OCSPResponseBuilder().responder_id(ocsp.OCSPResponderEncoding.HASH, about)
    since = now - datetime.timedelta(days=9)
    response = builder.add_response(about, about, hashes.SHA1(), status, since, until, revoked, None)
    return response.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def common_name(der: bytes | None) -> str:
    """Return the first host that the certificate (DER, as a handshake shows it) was issued for."""
    assert der is not None
    [attribute] = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(attribute.value)


class Authority:
    """A certificate that issues others; `pem` is what trusts it."""

    def __init__(self, name: str = "authority", issuer: Authority | None = None) -> None:
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.pem = _signed(self.key, self.name, issuer or self, x509.BasicConstraints(ca=True, path_length=None))

    def issue(self, *names: str) -> tuple[bytes, bytes]:
        """Return certificate and key (PEM) for names, or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        chain = _signed(key, subject, self, x509.SubjectAlternativeName([_general(name) for name in names]))
        return chain, key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def revoking(self, certificate: bytes) -> bytes:
        """Return a list on which a certificate is revoked."""
        now = datetime.datetime.now(datetime.UTC)
        serial = x509.load_pem_x509_certificate(certificate).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        made = x509.CertificateRevocationListBuilder().issuer_name(self.name).add_revoked_certificate(entry)
        made = made.last_update(now - datetime.timedelta(hours=1)).next_update(now + datetime.timedelta(days=1))
        return made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _signed(key: ec.EllipticCurvePrivateKey, subject: x509.Name, by: Authority, extension: x509.ExtensionType) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by.name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=30)).add_extension(extension, critical=False)
    return builder.sign(by.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
