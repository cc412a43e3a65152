from __future__ import annotations

import ssl
from contextlib import suppress

import msgspec
import pytest

from certs import certificate, common_name, issue
from portway_proxy import tls
from portway_proxy.openssl import TICKET_KEY
from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Certificate, ClientAuthority, Host, Snapshot, TlsTerms
from portway_proxy.tls import CertificateStore, self_signed

BUILT_IN = issue("built-in")


def store(*certificates: Certificate, default: str = "") -> CertificateStore:
    made = CertificateStore(*BUILT_IN)
    made.update(Snapshot(certificates=certificates, default_certificate=default))
    return made


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def handshake(
    served: CertificateStore,
    name: str | None,
    *,
    alpn: bool = False,
    ciphers: str = "",
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> ssl.SSLObject:
    """Return the client's side of a finished handshake in memory, after which it heard of its tickets."""
    to_client, to_proxy = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = context or trusting()
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(["h2", "http/1.1"])
    client = context.wrap_bio(to_client, to_proxy, server_hostname=name, session=session)
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
            with suppress(ssl.SSLWantReadError):
                client.read()
            return client
    raise AssertionError("the handshake does not end")


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.chain.decode())


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
    assert store(SHOP, WILD).find(asked) == (() if expected is None else (expected,))


def test_an_exact_host_goes_before_a_wildcard_that_covers_it() -> None:
    exact = certificate("z/exact", "a.shop.example")
    assert store(WILD, exact).find("a.shop.example") == (exact,)


def test_of_two_certificates_of_one_kind_for_a_host_the_first_by_name_wins_in_any_order() -> None:
    first, second = certificate("a/x", "twice.example"), certificate("b/x", "twice.example")
    for served in (store(first, second), store(second, first)):
        assert handshake(served, "twice.example").getpeercert(binary_form=True) == der(first)


def test_without_a_default_the_built_in_certificate_serves() -> None:
    assert served_name(store(SHOP), "unknown.example") == "built-in"
    assert served_name(store(), None) == "built-in"


def test_a_context_is_made_once_and_kept_while_its_certificate_is_unchanged() -> None:
    served = store(SHOP, OTHER)
    before = served.context_for("shop.example")
    same = Certificate("shop/web", ("shop.example", "www.shop.example"), SHOP.chain, SHOP.key, 1)
    served.update(
        Snapshot(
            certificates=(
                same,
                OTHER,
            )
        )
    )
    assert served.context_for("www.shop.example") is before
    served.update(Snapshot(certificates=(certificate("shop/web", "shop.example"),)))
    assert served.context_for("shop.example") is not before


def test_a_renewed_certificate_serves_from_the_next_handshake_on() -> None:
    served = store(SHOP)
    old = handshake(served, "shop.example").getpeercert(binary_form=True)
    served.update(Snapshot(certificates=(certificate("shop/web", "shop.example"),)))
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


def test_http_2_is_negotiated_whichever_certificate_serves_unless_it_is_switched_off() -> None:
    served = store(SHOP)
    for terms, chosen in ((None, "h2"), (TlsTerms(http2=False), "http/1.1"), (None, "h2")):
        served.update(Snapshot(certificates=(SHOP,), tls=terms))
        assert handshake(served, "shop.example", alpn=True).selected_alpn_protocol() == chosen
        assert handshake(served, None, alpn=True).selected_alpn_protocol() == chosen
        assert handshake(served, "shop.example").selected_alpn_protocol() is None


def test_versions_before_1_2_are_refused() -> None:
    served = store(SHOP)
    assert served.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_self_signed_certificate_serves() -> None:
    assert served_name(CertificateStore(*self_signed()), None) == "Portway default certificate"


def test_a_client_gets_the_certificate_whose_kind_of_key_it_knows() -> None:
    chain, key = issue("both.example", rsa=True)
    rsa = Certificate("shop/rsa", ("both.example",), chain, key, 0)
    ecdsa = certificate("shop/ecdsa", "both.example")
    served = store(rsa, ecdsa)
    for ciphers, expected in (("ECDHE-RSA-AES128-GCM-SHA256", rsa), ("ECDHE-ECDSA-AES128-GCM-SHA256", ecdsa)):
        shown = handshake(served, "both.example", ciphers=ciphers).getpeercert(binary_form=True)
        assert shown == der(expected)


def test_of_several_certificates_of_a_host_those_that_load_are_served() -> None:
    served = store(Certificate("a/bad", ("shop.example",), b"garbage", b"garbage", 0), SHOP)
    assert served_name(served, "shop.example") == "shop.example"


def test_ten_thousand_certificates_are_swapped_without_a_look_at_a_key_and_known_contexts_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [
        Certificate(f"shop/c{number}", (f"h{number}.example",), SHOP.chain, SHOP.key, 0) for number in range(10_000)
    ]
    served = store(*many)
    before = served.context_for("h7.example"), served.context_for("h8.example")
    loaded: list[str] = []
    original = tls._load

    def counting(context: ssl.SSLContext, one: Certificate) -> None:
        loaded.append(one.name)
        original(context, one)

    monkeypatch.setattr(tls, "_load", counting)
    renewed = Certificate("shop/c8", ("h8.example",), OTHER.chain, OTHER.key, 0)
    copies = [msgspec.structs.replace(one, chain=bytes(bytearray(one.chain))) for one in many]
    served.update(
        Snapshot(
            certificates=(
                *copies[:8],
                renewed,
                *copies[9:],
            )
        )
    )
    assert loaded == []
    assert served.context_for("h7.example") is before[0]
    assert served.context_for("h8.example") is not before[1]
    assert loaded == ["shop/c8"]


def resumed(first: CertificateStore, second: CertificateStore, name: str = "shop.example") -> bool:
    """Return whether a session that began at one store goes on at the other."""
    context = trusting()
    begun = handshake(first, name, context=context)
    return bool(handshake(second, name, context=context, session=begun.session).session_reused)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_workers_with_the_same_ticket_key_resume_each_others_sessions_until_it_changes(version: str) -> None:
    key = b"k" * TICKET_KEY
    first, second = (CertificateStore(*BUILT_IN, key) for _ in range(2))
    for one in (first, second):
        one.update(Snapshot(certificates=(SHOP,), tls=TlsTerms(protocols=(version,))))
    assert resumed(first, second)
    second.rekey(b"n" * TICKET_KEY)
    assert not resumed(first, second)
    first.rekey(b"n" * TICKET_KEY)
    assert resumed(first, second)


def test_without_a_shared_key_each_worker_resumes_its_own_sessions_only() -> None:
    first, second = store(SHOP), store(SHOP)
    assert resumed(first, first)
    assert not resumed(first, second)


def test_without_tickets_nothing_is_resumed() -> None:
    served = CertificateStore(*BUILT_IN, b"k" * TICKET_KEY)
    served.update(Snapshot(certificates=(SHOP,), tls=TlsTerms(tickets=False)))
    assert not resumed(served, served)


def test_tls_is_spoken_as_asked_for() -> None:
    served = store(SHOP)
    served.update(
        Snapshot(certificates=(SHOP,), tls=TlsTerms(protocols=("TLSv1.2",), ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
    )
    spoken = handshake(served, "shop.example").cipher()
    assert spoken is not None
    assert spoken[:2] == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2")
    served.update(Snapshot(certificates=(SHOP,), tls=None))
    assert handshake(served, "shop.example").version() == "TLSv1.3"


def test_a_host_has_ciphers_of_its_own() -> None:
    served = store(SHOP, OTHER)
    strong = "ECDHE-ECDSA-AES256-GCM-SHA384"
    weaker = "ECDHE-ECDSA-AES128-GCM-SHA256"
    terms = TlsTerms(protocols=("TLSv1.2",), host_ciphers=(("*.wild.example", weaker), ("shop.example", strong)))
    served.update(Snapshot(certificates=(SHOP, OTHER), tls=terms))
    for name, expected in (("shop.example", strong), ("a.wild.example", weaker)):
        assert served.welcome(name)[0] is not served.context
        ciphers = served.welcome(name)[0].get_ciphers()
        assert [one["name"] for one in ciphers if one["protocol"] == "TLSv1.2"] == [expected]
    assert served.welcome("other.example")[0] is served.context
    served.update(Snapshot(certificates=(SHOP, OTHER)))
    assert served.welcome("shop.example")[0] is served.context


def test_ciphers_and_curves_that_openssl_does_not_know_leave_its_own(caplog: pytest.LogCaptureFixture) -> None:
    served = store(SHOP)
    served.update(Snapshot(certificates=(SHOP,), tls=TlsTerms(ciphers="NONE-SUCH", curves="none-such")))
    assert served_name(served, "shop.example") == "shop.example"
    assert {record.getMessage() for record in caplog.records if record.levelname == "ERROR"} == {
        "OpenSSL knows none of the ciphers NONE-SUCH",
        "OpenSSL does not know the curves none-such",
    }


def test_only_the_curves_that_are_asked_for_are_taken() -> None:
    served = store(SHOP)
    served.update(Snapshot(certificates=(SHOP,), tls=TlsTerms(curves="P-384:P-521")))
    assert served_name(served, "shop.example") == "shop.example"
    narrow = trusting()
    narrow.set_ecdh_curve("prime256v1")
    with pytest.raises(ssl.SSLError):
        handshake(served, "shop.example", context=narrow)


@pytest.mark.parametrize(
    ("name", "refused"),
    [("shop.example", False), ("routed.example", False), ("x.wild.example", False), ("no.example", True), (None, True)],
)
def test_names_of_nobody_are_refused_where_that_is_asked_for(name: str | None, refused: bool) -> None:
    hosts = tuple(Host(host, ()) for host in ("*.wild.example", "routed.example"))
    served = store(SHOP)
    served.update(
        Snapshot(certificates=(SHOP,), tls=TlsTerms(reject_unknown=True)), RouteTable.build(Snapshot(hosts=hosts))
    )
    if refused:
        with pytest.raises(ssl.SSLError):
            handshake(served, name)
    else:
        handshake(served, name)


def test_where_openssl_cannot_be_reached_tls_is_served_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "openssl", lambda: None)
    first, second = (CertificateStore(*BUILT_IN, b"k" * TICKET_KEY) for _ in range(2))
    for one in (first, second):
        with_staple = msgspec.structs.replace(SHOP, staple=b"response", staple_until=2_000_000_000)
        one.update(Snapshot(certificates=(with_staple,), tls=TlsTerms(session_timeout=60)))
    assert resumed(first, first)
    assert not resumed(first, second)


def test_a_name_is_asked_by_the_authority_of_its_host_and_nobody_elses() -> None:
    authority = ClientAuthority("shop/ca", ("*.shop.example", "shop.example"), SHOP.chain)
    served = CertificateStore(*BUILT_IN)
    table = RouteTable.build(Snapshot(hosts=(Host("open.shop.example", ()),)))
    served.update(Snapshot(certificates=(SHOP, WILD), authorities=(authority,)), table)
    for name, asked in (
        ("shop.example", "shop/ca"),
        ("a.shop.example", "shop/ca"),
        ("open.shop.example", ""),
        ("a.b.shop.example", ""),
        ("other.example", ""),
        ("", ""),
    ):
        context, by = served.welcome(name)
        assert by == asked
        assert (context is served.context) is not bool(asked)
    assert served.welcome("shop.example")[0] is served.welcome("shop.example")[0]


def test_an_authority_of_any_host_asks_who_asks_for_no_hosts_name() -> None:
    served = CertificateStore(*BUILT_IN)
    table = RouteTable.build(Snapshot(hosts=(Host("open.example", ()),)))
    served.update(Snapshot(authorities=(ClientAuthority("shop/ca", ("",), SHOP.chain),)), table)
    assert [served.welcome(name)[1] for name in ("", "nobody.example", "open.example")] == ["shop/ca", "shop/ca", ""]


def test_a_context_that_asks_is_kept_while_its_certificates_and_its_authority_are_unchanged() -> None:
    authority = ClientAuthority("shop/ca@1", ("shop.example",), SHOP.chain)
    served = CertificateStore(*BUILT_IN)
    serves = Snapshot(certificates=(OTHER, SHOP), authorities=(authority,))
    served.update(serves)
    before = served.welcome("shop.example")
    assert before[1] == "shop/ca@1"
    renewed = msgspec.structs.replace(OTHER, chain=WILD.chain, key=WILD.key)
    served.update(msgspec.structs.replace(serves, certificates=(renewed, SHOP)))
    assert served.welcome("shop.example") == before
    for other in (
        msgspec.structs.replace(serves, certificates=(msgspec.structs.replace(SHOP, chain=WILD.chain, key=WILD.key),)),
        msgspec.structs.replace(serves, authorities=(msgspec.structs.replace(authority, name="shop/ca@2"),)),
        msgspec.structs.replace(serves, tls=TlsTerms(protocols=("TLSv1.3",))),
    ):
        served.update(serves)
        kept = served.welcome("shop.example")[0]
        served.update(other)
        assert served.welcome("shop.example")[0] not in (kept, served.context)
        assert len(served._asking) == 1
