"""The operator's own authority: what it signs, when it gets a successor, and who goes on trusting whom meanwhile."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import ClientVerifier, PolicyBuilder, Store, VerificationError

from certs import issue
from portway_operator.authority import LEAF_LIFE, Authority, BadAuthority, Pair, names_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def certificates(bundle: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(bundle)


def server_ok(pair: Pair, bundle: bytes, name: str, when: datetime) -> bool:
    """Return whether a client that trusts `bundle` alone accepts the certificate for `name`."""
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    builder = PolicyBuilder().store(Store(certificates(bundle))).time(when)
    try:
        builder.build_server_verifier(subject).verify(certificates(pair.certificate)[0], [])
    except VerificationError:
        return False
    return True


def client_names(pair: Pair, bundle: bytes, when: datetime) -> list[str]:
    verifier: ClientVerifier = PolicyBuilder().store(Store(certificates(bundle))).time(when).build_client_verifier()
    found = verifier.verify(certificates(pair.certificate)[0], [])
    return [name.value for name in found.subjects or []]


def test_what_it_signs_is_good_for_its_names_on_both_ends_for_a_day() -> None:
    authority = Authority.create(NOW)
    pair = authority.issue(("operator.portway.svc", "10.0.0.1"), NOW)
    for name in ("operator.portway.svc", "10.0.0.1"):
        assert server_ok(pair, authority.bundle, name, NOW)
    assert not server_ok(pair, authority.bundle, "other.portway.svc", NOW)
    assert client_names(authority.issue(("portway-proxy",), NOW), authority.bundle, NOW) == ["portway-proxy"]
    assert server_ok(pair, authority.bundle, "10.0.0.1", NOW + LEAF_LIFE - timedelta(seconds=1))
    assert not server_ok(pair, authority.bundle, "10.0.0.1", NOW + LEAF_LIFE + timedelta(seconds=1))


def test_a_clock_that_is_some_minutes_behind_accepts_it() -> None:
    authority = Authority.create(NOW)
    pair = authority.issue(("operator",), NOW)
    assert server_ok(pair, authority.bundle, "operator", NOW - timedelta(minutes=4))


def test_nobody_else_is_trusted() -> None:
    pair = Authority.create(NOW).issue(("operator",), NOW)
    assert not server_ok(pair, Authority.create(NOW).bundle, "operator", NOW)


def test_what_it_signs_may_sign_nothing_itself() -> None:
    authority = Authority.create(NOW)
    leaf = authority.issue(("operator",), NOW)
    forged = Authority(leaf).issue(("operator",), NOW)
    assert not server_ok(forged, authority.bundle, "operator", NOW)


def test_openssl_takes_them_with_all_its_strictness(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = Authority.create(now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=authority.bundle.decode())
    pair = authority.issue(("operator.example",), now)
    files = tmp_path / "crt", tmp_path / "key"
    files[0].write_bytes(pair.certificate)
    files[1].write_bytes(pair.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*files)
    handshake(context, server, "operator.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, server, "other.example")


def handshake(context: ssl.SSLContext, server_context: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


# --- in the course of time


def test_for_two_months_nothing_is_to_do() -> None:
    authority = Authority.create(NOW)
    assert authority.advance(NOW + 59 * DAY) == authority


def test_a_successor_is_trusted_a_day_before_it_signs() -> None:
    first = Authority.create(NOW)
    announced = first.advance(NOW + 61 * DAY)
    assert announced.current == first.current
    assert announced.next is not None
    assert len(certificates(announced.bundle)) == 2
    # Who knows the first bundle alone takes what is signed meanwhile.
    assert server_ok(announced.issue(("operator",), NOW + 61 * DAY), first.bundle, "operator", NOW + 61 * DAY)
    assert announced.advance(NOW + 61 * DAY + timedelta(hours=23)) == announced
    taken = announced.advance(NOW + 62 * DAY)
    assert (taken.current, taken.next) == (announced.next, None)
    # And then who knows both.
    later = NOW + 62 * DAY
    assert server_ok(taken.issue(("operator",), later), announced.bundle, "operator", later)
    # What the first one signed on its last day is still good.
    assert server_ok(announced.issue(("operator",), later), taken.bundle, "operator", later)


def test_who_has_signed_is_trusted_until_it_expires_and_then_forgotten() -> None:
    taken = Authority.create(NOW).advance(NOW + 61 * DAY).advance(NOW + 62 * DAY)
    assert len(certificates(taken.advance(NOW + 89 * DAY).bundle)) == 2
    assert len(certificates(taken.advance(NOW + 91 * DAY).bundle)) == 1


def test_years_of_care_keep_everybody_connected() -> None:
    authority = Authority.create(NOW)
    known = authority.bundle
    for hour in range(0, 3 * 365 * 24, 6):
        now = NOW + timedelta(hours=hour)
        authority = authority.advance(now)
        # Proxies have the bundle of six hours ago.
        assert server_ok(authority.issue(("operator",), now), known, "operator", now), now
        known = authority.bundle
        assert len(certificates(known)) <= 3


def test_one_that_was_left_alone_until_it_expired_begins_anew() -> None:
    first = Authority.create(NOW)
    second = first.advance(NOW + 200 * DAY)
    assert second.current != first.current
    assert len(certificates(second.bundle)) == 1


def test_a_leaf_never_outlives_who_signed_it() -> None:
    authority = Authority.create(NOW)
    late = NOW + 90 * DAY - timedelta(hours=1)
    [leaf] = certificates(authority.issue(("operator",), late).certificate)
    assert leaf.not_valid_after_utc == NOW + 90 * DAY


# --- as the data of a Secret


def test_it_comes_back_out_of_its_data() -> None:
    authority = Authority.create(NOW)
    for found in (
        authority,
        authority.advance(NOW + 61 * DAY),
        authority.advance(NOW + 61 * DAY).advance(NOW + 62 * DAY),
    ):
        assert Authority.of_data(found.data()) == found


def test_no_data_is_no_authority_yet() -> None:
    assert Authority.of_data({}) is None
    assert Authority.of_data({"tls.crt": b""}) is None


def rsa_pair() -> dict[str, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"tls.crt": issue("a")[0], "tls.key": pem}


@pytest.mark.parametrize(
    "data",
    [
        {"tls.crt": b"junk", "tls.key": b"junk"},
        {"password": b"somebody's"},
        {"tls.crt": issue("a")[0]},
        {"tls.crt": issue("a")[0], "tls.key": issue("b")[1]},
        {"tls.crt": issue("a")[0], "tls.key": issue("a", password=b"secret")[1]},
        rsa_pair(),
        {**Authority.create(NOW).data(), "next.crt": b"junk", "next.key": b"junk"},
    ],
    ids=["junk", "something else", "no key", "another key", "encrypted key", "RSA", "junk as the next"],
)
def test_what_is_none_is_not_taken_for_one_and_not_quoted(data: dict[str, bytes]) -> None:
    with pytest.raises(BadAuthority) as refused:
        Authority.of_data(data)
    assert "PRIVATE" not in str(refused.value)
    assert "junk" not in str(refused.value)


def test_no_key_is_shown() -> None:
    assert "PRIVATE KEY" not in repr(Authority.create(NOW).advance(NOW + 61 * DAY))


def test_keys_are_on_the_curve_that_everybody_knows() -> None:
    _, key = Authority.create(NOW).current.load()
    assert isinstance(key.curve, ec.SECP256R1)


def test_a_service_has_all_the_names_that_pods_call_it() -> None:
    assert names_of("op", "ns") == ("op", "op.ns", "op.ns.svc", "op.ns.svc.cluster.local")
