from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from certs import issue, staple
from portway_operator import certificates
from portway_operator.certificates import CertificateReader, KeyPair, covers
from portway_operator.objects import Fault, Meta, Secret

EPOCH = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
DSA_KEY = dsa.generate_private_key(1024)


def secret(chain: bytes, key: bytes, kind: str = "kubernetes.io/tls", name: str = "cert") -> Secret:
    return Secret(Meta("shop", name), kind, {"tls.crt": chain, "tls.key": key})


def read(chain: bytes, key: bytes, kind: str = "kubernetes.io/tls") -> KeyPair | Fault:
    return CertificateReader().read(secret(chain, key, kind))


def key_pair(chain: bytes, key: bytes) -> KeyPair:
    found = read(chain, key)
    assert isinstance(found, KeyPair)
    return found


def fault(chain: bytes, key: bytes, kind: str = "kubernetes.io/tls") -> Fault:
    found = read(chain, key, kind)
    assert isinstance(found, Fault)
    return found


def pem(key: CertificateIssuerPrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def signed(
    key: CertificateIssuerPrivateKeyTypes,
    *hosts: str,
    common: str = "name.example",
    issuer: tuple[str, CertificateIssuerPrivateKeyTypes] | None = None,
) -> bytes:
    by, by_key = issuer or (common, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, by)]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(EPOCH)
        .not_valid_after(EPOCH + datetime.timedelta(days=1))
    )
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    by_hash = None if isinstance(by_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(by_key, by_hash).public_bytes(Encoding.PEM)


RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())


P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize("key", [RSA, P256, P384, ED25519])
def test_a_pair_is_read_in_a_form_that_openssl_loads(key: CertificateIssuerPrivateKeyTypes, tmp_path: Path) -> None:
    pair = key_pair(signed(key, "Shop.example", "*.shop.example"), pem(key))
    assert pair.names == ("*.shop.example", "shop.example")
    assert pair.not_after == int(EPOCH.timestamp()) + 86400
    (tmp_path / "chain.pem").write_bytes(pair.chain)
    (tmp_path / "key.pem").write_bytes(pair.key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")


def test_what_stands_around_the_blocks_does_not_reach_the_proxy() -> None:
    chain = b"Bag Attributes\n" + signed(P256, "shop.example") + b"trailing"
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    pair = key_pair(chain, parameters + pem(P256, PrivateFormat.TraditionalOpenSSL))
    assert pair.chain.startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert b"Bag" not in pair.chain
    assert pair.key == pem(P256)


def test_the_chain_keeps_its_order() -> None:
    leaf = signed(P256, "shop.example", issuer=("ca", RSA))
    authority = signed(RSA, common="ca")
    assert key_pair(leaf + authority, pem(P256)).chain == leaf + authority


def test_the_common_name_counts_only_without_alternative_names() -> None:
    assert key_pair(signed(P256, common="Old.example"), pem(P256)).names == ("old.example",)
    assert key_pair(signed(P256, "new.example", common="old.example"), pem(P256)).names == ("new.example",)


def test_a_name_that_is_no_host_is_no_name() -> None:
    names = key_pair(signed(P256, "shop.example", "evil\x00.example", "a b", "*.*.example", "*"), pem(P256)).names
    assert names == ("shop.example",)


CHAIN, KEY = issue("shop.example")
WEAK_RSA = rsa.generate_private_key(65537, 1024)
ODD_CURVE = ec.generate_private_key(ec.SECP256K1())


def self_made(key: CertificateIssuerPrivateKeyTypes) -> Fault:
    return fault(signed(key, "shop.example"), pem(key))


@pytest.mark.parametrize(
    ("code", "words", "make"),
    [
        ("secret_malformed", "It is of type 'Opaque'", lambda: fault(CHAIN, KEY, "Opaque")),
        ("secret_malformed", "It has no tls.crt", lambda: fault(b"", KEY)),
        ("secret_malformed", "It has no tls.key", lambda: fault(CHAIN, b"")),
        ("secret_malformed", "no PEM certificate", lambda: fault(b"x", KEY)),
        ("secret_malformed", "no PEM certificate", lambda: fault(CHAIN[: len(CHAIN) // 2], KEY)),
        ("secret_malformed", "no PEM private key", lambda: fault(CHAIN, b"x")),
        ("secret_malformed", "no PEM private key", lambda: fault(CHAIN, KEY.replace(b"M", b"N", 1))),
        ("secret_malformed", "encrypted", lambda: fault(*issue("shop.example", password=b"secret"))),
        ("secret_malformed", "less than 2048 bits", lambda: self_made(WEAK_RSA)),
        ("secret_malformed", "curve secp256k1", lambda: self_made(ODD_CURVE)),
        ("secret_malformed", "neither RSA, ECDSA nor Ed25519", lambda: fault(CHAIN, pem(DSA_KEY))),
        ("key_mismatch", "does not belong", lambda: fault(CHAIN, issue("shop.example")[1])),
        ("key_mismatch", "not the first one", lambda: fault(issue("other.example")[0] + CHAIN, KEY)),
    ],
)
def test_why_a_pair_cannot_be_used_is_said(code: str, words: str, make: Callable[[], Fault]) -> None:
    found = make()
    assert (found.code, words in found.found) == (code, True), found.found


def test_an_rsa_key_whose_numbers_disagree_is_refused() -> None:
    numbers = RSA.private_numbers()
    broken = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d, numbers.dmp1, numbers.dmq1, numbers.iqmp + 2, numbers.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    assert "is broken" in fault(signed(RSA, "shop.example"), pem(broken)).found


def test_neither_a_pair_nor_a_fault_shows_the_key() -> None:
    body = KEY.splitlines()[1].decode()
    assert body not in repr(key_pair(CHAIN, KEY))
    assert body not in repr(fault(CHAIN[:-200], KEY))
    assert body not in repr(fault(CHAIN, KEY[:-60]))


def test_a_pair_is_read_once_for_each_version_of_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    read_names = []
    original = certificates._key_pair

    def counting(one: Secret) -> KeyPair:
        read_names.append(one.meta.name)
        return original(one)

    monkeypatch.setattr(certificates, "_key_pair", counting)
    reader = CertificateReader()
    first = reader.read(secret(CHAIN, KEY))
    assert reader.read(secret(CHAIN, KEY)) is first
    assert reader.read(secret(b"x", KEY)) is not first
    assert isinstance(reader.read(secret(b"x", KEY)), Fault)
    reader.forget("shop", "cert")
    reader.read(secret(b"x", KEY))
    assert read_names == ["cert"] * 3


def test_a_reader_that_fails_in_an_unknown_way_is_a_fault_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Secret) -> KeyPair:
        raise RuntimeError("secret words")

    monkeypatch.setattr(certificates, "_key_pair", failing)
    found = fault(CHAIN, KEY)
    assert "RuntimeError" in found.found
    assert "secret words" not in found.found


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("shop.example", True),
        ("a.wild.example", True),
        ("*.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        ("other.example", False),
        ("localhost", False),
    ],
)
def test_a_wildcard_is_good_for_one_label(host: str, good: bool) -> None:
    assert covers(("shop.example", "*.wild.example"), host) is good


def test_a_secret_that_turns_bad_keeps_its_last_good_pair_until_it_is_good_again_or_gone() -> None:
    reader = CertificateReader()
    good = reader.find(secret(CHAIN, KEY))
    reader.outdate("shop", "cert")
    half = secret(CHAIN[: len(CHAIN) // 2], KEY)
    assert isinstance(reader.read(half), Fault)
    assert reader.find(half) == good
    reader.outdate("shop", "cert")
    assert reader.find(secret(b"garbage", KEY)) == good
    reader.outdate("shop", "cert")
    chain, key = issue("new.example")
    assert reader.find(secret(chain, key)) == reader.read(secret(chain, key)) != good
    reader.forget("shop", "cert")
    assert reader.find(half) is None


def test_a_pair_that_was_good_while_another_reader_read_it_is_known_as_the_last_good_one() -> None:
    reader, apart = CertificateReader(), CertificateReader()
    served = secret(CHAIN, KEY)
    apart.learn(reader, {served.meta.key: served})
    good = apart.find(served)
    newer = secret(b"garbage", KEY)
    reader.outdate("shop", "cert")
    reader.learn(apart, {newer.meta.key: newer})
    assert reader.find(newer) == good
    again = CertificateReader()
    again.learn(reader, {newer.meta.key: newer})
    assert again.find(newer) == good


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ECDSA"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (rsa.generate_private_key(65537, 2048), "RSA"),
    ],
)
def test_the_kind_of_a_key_is_told(key: CertificateIssuerPrivateKeyTypes, kind: str) -> None:
    assert key_pair(signed(key, "shop.example"), pem(key)).kind == kind


def with_staple(response: bytes) -> KeyPair:
    data = {"tls.crt": CHAIN, "tls.key": KEY, "tls.ocsp-staple": response}
    found = CertificateReader().read(Secret(Meta("shop", "cert"), "kubernetes.io/tls", data))
    assert isinstance(found, KeyPair)
    return found


def test_a_response_of_the_authority_comes_with_the_pair_and_says_until_when_it_counts() -> None:
    response = staple(CHAIN, KEY)
    found = with_staple(response)
    assert (found.staple, found.staple_fault) == (response, "")
    assert 0 <= datetime.datetime.now(datetime.UTC).timestamp() + 86400 - found.staple_until < 600


@pytest.mark.parametrize(
    ("words", "response"),
    [
        ("no OCSP response", b"garbage"),
        ("no OCSP response", staple(CHAIN, KEY)[:-9]),
        ("gave no answer", ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)),
        ("another certificate", staple(*issue("shop.example"))),
        ("not say that the certificate is good", staple(CHAIN, KEY, status=ocsp.OCSPCertStatus.REVOKED)),
        ("not say that the certificate is good", staple(CHAIN, KEY, status=ocsp.OCSPCertStatus.UNKNOWN)),
        ("until when", staple(CHAIN, KEY, days=None)),
    ],
)
def test_a_response_that_is_of_no_use_costs_the_staple_alone_and_says_why(
    words: str, response: bytes | ocsp.OCSPResponse
) -> None:
    data = response if isinstance(response, bytes) else response.public_bytes(Encoding.DER)
    found = with_staple(data)
    assert (found.staple, found.staple_until) == (b"", 0)
    assert words in found.staple_fault
    assert found.chain == CHAIN
