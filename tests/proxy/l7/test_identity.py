from __future__ import annotations

import pytest

from portway_proxy.errors import BadHead, BadSnapshot
from portway_proxy.l7.identity import Identity, Speaker, Trusted, Way, identity_of, way_of
from portway_proxy.l7.request import RequestHead
from portway_proxy.proxy_protocol import Address, ProxyHeader
from portway_proxy.settings import Limits
from portway_proxy.trust import Belief, Trust

LIMITS = Limits()
PEER = Way("10.0.0.1", 80, secure=False)
REQUEST = Trust(("10.0.0.0/8",), Belief.REQUEST)


def head(*lines: str) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", "Host: shop.example", *lines, "", ""]).encode("latin-1")


def hear(trust: Trust, *lines: str, way: Way = PEER) -> tuple[RequestHead, Identity]:
    speaker = Trusted(trust, LIMITS).speaker(way)
    assert isinstance(speaker, Speaker)
    return speaker.hear(head(*lines))


def told(identity: Identity) -> dict[str, str]:
    """Return the fields that tell an endpoint, by name; none may come twice."""
    pairs = [
        (line.partition(": ")[0], line.partition(": ")[2])
        for line in identity.fields.decode("latin-1").split("\r\n")[:-1]
    ]
    assert len({name.lower() for name, _ in pairs}) == len(pairs)
    return dict(pairs)


# --- whose connection it is


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::7", "2001:db8::7"),
    ],
)
def test_a_connection_is_its_peers(peer: str, address: str) -> None:
    assert way_of(peer, 80, None, tls=False) == Way(address, 80, secure=False)
    assert way_of(peer, 443, ProxyHeader(15), tls=True) == Way(address, 443, secure=True)


@pytest.mark.parametrize(
    ("port", "tls", "told_tls", "secure"),
    [(80, False, False, False), (443, False, False, True), (80, True, False, True), (80, False, True, True)],
)
def test_a_connection_is_whose_the_header_says(port: int, *, tls: bool, told_tls: bool, secure: bool) -> None:
    header = ProxyHeader(28, Address("::ffff:192.0.2.7", 4711), Address("198.51.100.1", port), told_tls)
    assert way_of("10.0.0.1", 8080, header, tls=tls) == Way("192.0.2.7", port, secure)


def test_a_peer_that_speaks_for_itself_is_told_as_it_is() -> None:
    assert identity_of(Way("192.0.2.7", 8443, secure=True)) == Identity(
        b"192.0.2.7",
        True,
        b"X-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Scheme: https\r\nX-Scheme: https\r\n",
    )


# --- who is asked


@pytest.mark.parametrize(
    ("trust", "speaks"),
    [
        (None, False),
        (Trust(), False),
        (Trust(("10.0.0.0/8",)), False),
        (Trust((), Belief.REQUEST), False),
        (Trust(("10.0.0.2/32",), Belief.REQUEST), False),
        (Trust(("10.0.0.0/8",), Belief.ADDRESS), True),
        (Trust(("0.0.0.0/0",), Belief.REQUEST), True),
        (Trust(("::/0",), Belief.REQUEST), False),
    ],
)
def test_only_peers_in_the_networks_speak_for_others(trust: Trust | None, *, speaks: bool) -> None:
    trusted = Trusted(trust, LIMITS)
    assert (trusted.speaker(PEER) is not None) is trusted.believes(PEER.address) is speaks
    assert not trusted.believes("-")


def test_only_peers_in_the_networks_send_a_proxy_header_and_only_when_it_is_on() -> None:
    on = Trusted(Trust(("10.0.0.0/8",), proxy_protocol=True), LIMITS)
    assert on.announces("10.9.9.9")
    assert on.announces("::ffff:10.9.9.9")
    assert not on.announces("192.0.2.7")
    assert not on.announces("-")
    assert not Trusted(Trust(("10.0.0.0/8",)), LIMITS).announces("10.9.9.9")
    assert not Trusted(Trust((), proxy_protocol=True), LIMITS).announces("10.9.9.9")


def test_a_network_that_is_none_is_refused_before_it_is_served() -> None:
    with pytest.raises(BadSnapshot, match="a trusted network is none"):
        Trusted(Trust(("10.0.0.0/99",)), LIMITS)


# --- what is believed


def test_a_trusted_peer_that_says_nothing_speaks_for_itself() -> None:
    parsed, identity = hear(REQUEST)
    assert identity == identity_of(PEER)
    assert parsed.forwarded_host == b""


def test_the_whole_of_a_request_is_believed() -> None:
    parsed, identity = hear(
        REQUEST,
        "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.2",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: www.shop.example",
        "X-Forwarded-Port: 8443",
        "X-Forwarded-Prefix: /shop",
        "X-Forwarded-Server: lb",
        "X-Real-IP: 6.6.6.6",
        "X-Scheme: gopher",
        "Forwarded: for=6.6.6.6",
    )
    assert (identity.address, identity.secure) == (b"192.0.2.7", True)
    assert parsed.forwarded_host == b"www.shop.example"
    assert parsed.lines == []
    assert told(identity) == {
        "X-Forwarded-For": "192.0.2.7",
        "X-Real-IP": "192.0.2.7",
        "X-Forwarded-Port": "8443",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Scheme": "https",
        "X-Scheme": "https",
        "X-Original-Forwarded-For": "6.6.6.6, 192.0.2.7, 10.0.0.2",
        "X-Original-Forwarded-Host": "www.shop.example",
        "X-Forwarded-Prefix": "/shop",
    }


def test_the_address_alone_is_believed_where_that_is_asked_for() -> None:
    parsed, identity = hear(
        Trust(("10.0.0.0/8",), Belief.ADDRESS),
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: /evil",
    )
    assert (identity.address, identity.secure, parsed.forwarded_host) == (b"192.0.2.7", False, b"")
    fields = told(identity)
    assert (fields["X-Forwarded-Proto"], fields["X-Forwarded-Port"]) == ("http", "80")
    assert "X-Forwarded-Prefix" not in fields
    assert "X-Original-Forwarded-Host" not in fields


@pytest.mark.parametrize(
    ("lines", "proto", "port"),
    [
        (["X-Forwarded-Proto: https"], "https", "443"),
        (["X-Forwarded-Proto: HTTPS"], "https", "443"),
        (["X-Forwarded-Proto: wss"], "https", "443"),
        (["X-Forwarded-Proto: http"], "http", "80"),
        (["X-Forwarded-Scheme: https"], "https", "443"),
        (["X-Forwarded-Proto: http", "X-Forwarded-Scheme: https"], "http", "80"),
        (["X-Forwarded-Proto: https, https"], "https", "443"),
        (["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"], "http", "80"),
        (["X-Forwarded-Proto: https, http"], "http", "80"),
        (["X-Forwarded-Proto: gopher"], "http", "80"),
        (["X-Forwarded-Proto:"], "http", "80"),
        (["X-Forwarded-Port: 0"], "http", "80"),
        (["X-Forwarded-Port: 65536"], "http", "80"),
        (["X-Forwarded-Port: +81"], "http", "80"),
        (["X-Forwarded-Port: 81, 82"], "http", "80"),
        (["X-Forwarded-Port: 8080"], "http", "8080"),
        (["X_Forwarded_Proto: https"], "http", "80"),
        (["X.Forwarded.Proto: https"], "http", "80"),
    ],
)
def test_scheme_and_port_are_what_is_said_plainly(lines: list[str], proto: str, port: str) -> None:
    fields = told(hear(REQUEST, *lines)[1])
    assert (fields["X-Forwarded-Proto"], fields["X-Forwarded-Port"]) == (proto, port)
    assert fields["X-Scheme"] == fields["X-Forwarded-Scheme"] == proto


def test_a_client_that_came_without_tls_is_told_so_although_its_proxy_comes_by_tls() -> None:
    _, identity = hear(REQUEST, "X-Forwarded-Proto: http", way=Way("10.0.0.1", 443, secure=True))
    assert not identity.secure
    assert told(identity)["X-Forwarded-Port"] == "80"


@pytest.mark.parametrize("host", ["a b", "evil.example, shop.example", "evil.example/", "", "a..b", "user@host"])
def test_a_host_that_is_none_is_not_believed(host: str) -> None:
    assert hear(REQUEST, f"X-Forwarded-Host: {host}")[0].forwarded_host == b""


@pytest.mark.parametrize("prefix", ["shop", "//evil", "/\\\\evil", "/shop /x", "/a, /b", "", "/" + "x" * 1024])
def test_a_prefix_that_is_no_path_is_not_passed_on(prefix: str) -> None:
    assert "X-Forwarded-Prefix" not in told(hear(REQUEST, f"X-Forwarded-Prefix: {prefix}")[1])


def test_what_connection_nominates_takes_nothing_away() -> None:
    said = ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /shop"]
    nominated = "Connection: x-forwarded-for, x-forwarded-proto, x-forwarded-prefix, x-real-ip"
    assert hear(REQUEST, *said, nominated)[1] == hear(REQUEST, *said)[1]
    assert hear(REQUEST, nominated, *said)[1] == hear(REQUEST, *said)[1]


# --- other fields that say it


@pytest.mark.parametrize("field", ["X-Real-IP", "CF-Connecting-IP", "True-Client-IP"])
def test_another_field_may_say_the_client(field: str) -> None:
    trust = Trust(("10.0.0.0/8",), Belief.REQUEST, field)
    _, identity = hear(trust, f"{field.lower()}: 192.0.2.7", "X-Forwarded-For: 6.6.6.6")
    assert identity.address == b"192.0.2.7"
    fields = told(identity)
    assert fields["X-Forwarded-For"] == fields["X-Real-IP"] == fields[field] == "192.0.2.7"


@pytest.mark.parametrize("field", ["CF-Connecting-IP", "X-Real-IP", "Forwarded"])
def test_that_field_is_dropped_when_somebody_else_says_it(field: str) -> None:
    trusted = Trusted(Trust(("10.0.0.0/8",), Belief.REQUEST, field), LIMITS)
    assert trusted.plain.parse(head(f"{field}: 6.6.6.6", "Accept: */*")).lines == [b"Accept: */*\r\n"]


def test_forwarded_says_all_of_a_hop_where_it_is_asked_for() -> None:
    trust = Trust(("10.0.0.0/8",), Belief.REQUEST, "Forwarded")
    said = 'for=6.6.6.6;host=evil, for="[2001:db8::7]:4711";proto=https;host="shop.example", for=10.0.0.2;proto=http'
    parsed, identity = hear(trust, f"Forwarded: {said}", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: http")
    assert (identity.address, identity.secure) == (b"2001:db8::7", True)
    assert parsed.forwarded_host == b"shop.example"
    fields = told(identity)
    assert fields["Forwarded"] == 'for="[2001:db8::7]";proto=https'
    assert fields["X-Forwarded-For"] == "2001:db8::7"


def test_a_malformed_forwarded_of_a_trusted_peer_is_a_bad_request() -> None:
    with pytest.raises(BadHead, match="Forwarded"):
        hear(Trust(("10.0.0.0/8",), Belief.REQUEST, "Forwarded"), 'Forwarded: for="6.6.6.6', "Forwarded: for=192.0.2.7")


def test_fields_that_come_twice_are_one_list() -> None:
    _, identity = hear(REQUEST, "X-Forwarded-For: 6.6.6.6, 192.0.2.7", "x-forwarded-for: 10.0.0.2")
    assert identity.address == b"192.0.2.7"


# --- the whole chain


def test_the_chain_goes_on_with_the_peer_at_its_end_where_that_is_asked_for() -> None:
    trust = Trust(("10.0.0.0/8",), Belief.REQUEST, append=True)
    _, identity = hear(trust, "X-Forwarded-For: 6.6.6.6, 192.0.2.7")
    fields = told(identity)
    assert identity.address == b"192.0.2.7"
    assert fields["X-Forwarded-For"] == "6.6.6.6, 192.0.2.7, 10.0.0.1"
    assert fields["X-Real-IP"] == "192.0.2.7"
    assert told(hear(trust)[1])["X-Forwarded-For"] == "10.0.0.1"


def test_a_chain_of_forwarded_goes_on_in_its_own_words() -> None:
    trust = Trust(("10.0.0.0/8",), Belief.REQUEST, "Forwarded", append=True)
    assert told(hear(trust, "Forwarded: for=192.0.2.7")[1])["Forwarded"] == "for=192.0.2.7, for=10.0.0.1;proto=http"
    assert told(hear(trust)[1])["Forwarded"] == "for=10.0.0.1;proto=http"


def test_one_head_says_nothing_of_the_next() -> None:
    speaker = Trusted(REQUEST, LIMITS).speaker(PEER)
    assert speaker is not None
    speaker.hear(head("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: www.shop.example"))
    parsed, identity = speaker.hear(head())
    assert (identity, parsed.forwarded_host) == (identity_of(PEER), b"")
