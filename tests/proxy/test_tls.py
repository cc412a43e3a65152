from __future__ import annotations

import ssl

import pytest

from certs import certificate, common_name, issue
from portway_proxy.snapshot import Certificate
from portway_proxy.tls import CertificateStore, self_signed

BUILT_IN = issue("built-in")


def store(*certificates: Certificate, default: str = "") -> CertificateStore:
    made = CertificateStore(*BUILT_IN)
    made.update(certificates, default)
    return made


def handshake(served: CertificateStore, name: str | None, *, alpn: bool = False) -> ssl.SSLObject:
    """Return the client's side of a finished handshake in memory."""
    to_client, to_proxy = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(["h2", "http/1.1"])
    client = context.wrap_bio(to_client, to_proxy, server_hostname=name)
    proxy = served.context.wrap_bio(to_proxy, to_client, server_side=True)
    pending = [client, proxy]
    for _ in range(10):
        for side in tuple(pending):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(side)
        if not pending:
            return client
    raise AssertionError("the handshake does not end")


def served_name(served: CertificateStore, name: str | None) -> str:
    return common_name(handshake(served, name).getpeercert(binary_form=True))


SHOP = certificate("shop/web", "shop.example")
WILD = certificate("shop/wild", "*.shop.example")
OTHER = certificate("other/web", "other.example")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("shop.example", "shop.example"),
        ("SHOP.Example", "shop.example"),
        ("a.shop.example", "*.shop.example"),
        ("a.b.shop.example", "other.example"),
        ("unknown.example", "other.example"),
        (None, "other.example"),
    ],
)
def test_a_handshake_gets_the_exact_then_the_wildcard_then_the_default_certificate(
    asked: str | None, expected: str
) -> None:
    assert served_name(store(SHOP, WILD, OTHER, default="other/web"), asked) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("shop.example.", SHOP),
        ("A.SHOP.EXAMPLE.", WILD),
        ("shop.example..", None),
        ("example", None),
        (".", None),
        ("", None),
        ("*.shop.example", WILD),
    ],
)
def test_case_and_a_trailing_dot_do_not_count(asked: str, expected: Certificate | None) -> None:
    assert store(SHOP, WILD).find(asked) is expected


def test_an_exact_host_goes_before_a_wildcard_that_covers_it() -> None:
    exact = certificate("z/exact", "a.shop.example")
    assert store(WILD, exact).find("a.shop.example") is exact


def test_of_two_certificates_for_a_host_the_first_by_name_wins_in_any_order() -> None:
    first, second = certificate("a/x", "twice.example"), certificate("b/x", "twice.example")
    assert store(first, second).find("twice.example") is first
    assert store(second, first).find("twice.example") is first


def test_without_a_default_the_built_in_certificate_serves() -> None:
    assert served_name(store(SHOP), "unknown.example") == "built-in"
    assert served_name(store(), None) == "built-in"


def test_a_context_is_made_once_and_kept_while_its_certificate_is_unchanged() -> None:
    served = store(SHOP, OTHER)
    before = served.context_for("shop.example")
    same = Certificate("shop/web", ("shop.example", "www.shop.example"), SHOP.chain, SHOP.key, 1)
    served.update([same, OTHER], "")
    assert served.context_for("www.shop.example") is before
    served.update([certificate("shop/web", "shop.example")], "")
    assert served.context_for("shop.example") is not before


def test_a_renewed_certificate_serves_from_the_next_handshake_on() -> None:
    served = store(SHOP)
    old = handshake(served, "shop.example").getpeercert(binary_form=True)
    served.update([certificate("shop/web", "shop.example")], "")
    assert handshake(served, "shop.example").getpeercert(binary_form=True) != old


def broken(kind: str) -> Certificate:
    chain, key = issue("broken.example")
    _, other_key = issue("broken.example")
    parts = {
        "garbage": (b"garbage", b"garbage"),
        "empty": (b"", b""),
        "no key": (chain, b""),
        "key of another": (chain, other_key),
        "encrypted key": issue("broken.example", password=b"sesame"),
        "zero bytes": (chain, b"\0" * 100),
        "half a key": (chain, key[: len(key) // 2]),
    }
    return Certificate("bad/one", ("broken.example",), *parts[kind], 0)


@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "no key", "key of another", "encrypted key", "zero bytes", "half a key"]
)
def test_a_certificate_that_does_not_load_costs_its_own_names_only_and_is_logged_once(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = store(broken(kind), SHOP, OTHER, default="other/web")
    assert served_name(served, "broken.example") == "other.example"
    assert served_name(served, "broken.example") == "other.example"
    assert served_name(served, "shop.example") == "shop.example"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "certificate bad/one does not load" in caplog.text
    assert "PRIVATE" not in caplog.text


def test_a_default_that_does_not_load_leaves_the_built_in_one() -> None:
    assert served_name(store(broken("garbage"), default="bad/one"), "unknown.example") == "built-in"


def test_http_1_1_is_negotiated_whichever_certificate_serves() -> None:
    served = store(SHOP)
    assert handshake(served, "shop.example", alpn=True).selected_alpn_protocol() == "http/1.1"
    assert handshake(served, None, alpn=True).selected_alpn_protocol() == "http/1.1"
    assert handshake(served, "shop.example").selected_alpn_protocol() is None


def test_versions_before_1_2_are_refused() -> None:
    served = store(SHOP)
    assert served.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert served.context_for("shop.example").minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_self_signed_certificate_serves() -> None:
    assert served_name(CertificateStore(*self_signed()), None) == "Portway default certificate"
