"""Certificates for tests, made on the spot."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from portway_proxy.snapshot import Certificate


def issue(*hosts: str, password: bytes = b"", rsa: bool = False) -> tuple[bytes, bytes]:
    """Return chain and key (PEM) of a self-signed certificate for `hosts`, with the key encrypted by `password`."""
    key = generate_private_key(65537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
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


def common_name(der: bytes | None) -> str:
    """Return the first host that the certificate (DER, as a handshake shows it) was issued for."""
    assert der is not None
    [attribute] = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(attribute.value)
