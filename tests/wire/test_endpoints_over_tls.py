"""Endpoints that speak TLS: verified or not, with certificates of ours, on connections and sessions that go on."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

import msgspec
import pytest

from certs import Authority
from eventually import eventually
from portway_proxy.channel import store
from portway_proxy.checks import Checks
from portway_proxy.snapshot import (
    Check,
    EndpointTls,
    Keyring,
    Protocol,
    ProxyVersion,
    Snapshot,
    UpstreamPolicy,
)
from wire.peers import Client, Endpoint, Peer, echoing
from wire.site import WEB, Net, everything_to

NAME = "web.shop.svc"
VERIFIED = EndpointTls(NAME, verify=True, keyring="shop/keys@1")


@dataclass
class Secured:
    """A context of an endpoint; `asked` are the names that clients asked for, in their order."""

    context: ssl.SSLContext
    asked: list[str | None] = field(default_factory=list)

    def note(self, _: object, name: str | None, __: ssl.SSLContext) -> None:
        self.asked.append(name)


def secured(chain: bytes, key: bytes, clients: bytes = b"") -> Secured:
    """Return what serves a certificate, and asks clients for theirs by the authorities in `clients`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    fd = store(chain + b"\n" + key)
    context.load_cert_chain(f"/proc/self/fd/{fd}")
    os.close(fd)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.decode())
    made = Secured(context)
    context.sni_callback = made.note
    return made


def asking(port: int, tls: EndpointTls | None, *keyrings: Keyring, policy: UpstreamPolicy | None = None) -> Snapshot:
    made = everything_to(port, protocol=Protocol.HTTPS)
    [upstream] = made.upstreams
    upstream = msgspec.structs.replace(upstream, tls=tls, policy=policy)
    return msgspec.structs.replace(made, upstreams=(upstream,), keyrings=keyrings)


async def listening(net: Net, tls: Secured) -> Endpoint:
    endpoint = Endpoint(echoing)
    await endpoint.start(tls=tls.context)
    net.stack.push_async_callback(endpoint.close)
    return endpoint


async def status(client: Client) -> int:
    return (await client.get()).status


async def test_without_terms_endpoints_are_neither_verified_nor_told_a_name(net: Net) -> None:
    tls = secured(*Authority().issue("anybody.example"))
    endpoint = await listening(net, tls)
    site = await net.site(asking(endpoint.port, None))
    assert await status(await net.client(site)) == 200
    assert tls.asked == [None]


@pytest.mark.parametrize(("told", "asked"), [(False, None), (True, NAME)])
async def test_a_verified_endpoint_is_told_its_name_only_where_that_is_asked_for(
    net: Net, told: bool, asked: str | None
) -> None:
    authority = Authority()
    tls = secured(*authority.issue(NAME))
    endpoint = await listening(net, tls)
    terms = msgspec.structs.replace(VERIFIED, told=told)
    site = await net.site(asking(endpoint.port, terms, Keyring("shop/keys@1", authority.pem)))
    assert await status(await net.client(site)) == 200
    assert tls.asked == [asked]


@pytest.mark.parametrize(
    ("served", "trusted", "name", "good"),
    [
        ((NAME,), "own", NAME, True),
        (("*.shop.svc",), "own", NAME, True),
        (("127.0.0.1",), "own", "127.0.0.1", True),
        (("other.shop.svc",), "own", NAME, False),
        (("127.0.0.2",), "own", "127.0.0.1", False),
        ((NAME,), "other", NAME, False),
    ],
    ids=["name", "wildcard", "address", "other-name", "other-address", "other-authority"],
)
async def test_a_certificate_of_somebody_else_is_502_with_a_reason_of_its_own(
    net: Net, served: tuple[str, ...], trusted: str, name: str, good: bool
) -> None:
    authority = Authority()
    endpoint = await listening(net, secured(*authority.issue(*served)))
    ca = authority.pem if trusted == "own" else Authority().pem
    terms = msgspec.structs.replace(VERIFIED, name=name)
    site = await net.site(asking(endpoint.port, terms, Keyring("shop/keys@1", ca)))
    assert await status(await net.client(site)) == (200 if good else 502)
    assert (await site.line())["reason"] == ("" if good else "endpoint_unverified")
    assert [bool(data) for data in endpoint.received if data] == ([True] if good else [])  # Not a byte of a request.


async def test_without_a_keyring_the_authorities_of_the_system_are_believed_and_no_others(net: Net) -> None:
    endpoint = await listening(net, secured(*Authority().issue(NAME)))
    site = await net.site(asking(endpoint.port, EndpointTls(NAME, verify=True)))
    assert await status(await net.client(site)) == 502
    assert (await site.line())["reason"] == "endpoint_unverified"


@pytest.mark.parametrize(("depth", "good"), [(1, True), (0, False)])
async def test_a_chain_is_as_long_as_it_may_be(net: Net, depth: int, good: bool) -> None:
    root = Authority("root")
    between = Authority("between", root)
    chain, key = between.issue(NAME)
    endpoint = await listening(net, secured(chain + between.pem, key))
    terms = msgspec.structs.replace(VERIFIED, depth=depth)
    site = await net.site(asking(endpoint.port, terms, Keyring("shop/keys@1", root.pem)))
    assert await status(await net.client(site)) == (200 if good else 502)


async def test_a_revoked_certificate_is_none(net: Net) -> None:
    authority = Authority()
    chain, key = authority.issue(NAME)
    endpoint = await listening(net, secured(chain, key))
    site = await net.site(
        asking(endpoint.port, VERIFIED, Keyring("shop/keys@1", authority.pem, authority.revoking(chain)))
    )
    assert await status(await net.client(site)) == 502
    assert (await site.line())["reason"] == "endpoint_unverified"


@pytest.mark.parametrize("shown", [True, False])
async def test_endpoints_that_ask_are_shown_the_certificate_of_the_keyring(net: Net, shown: bool) -> None:
    authority = Authority()
    chain, key = authority.issue("portway")
    endpoint = await listening(net, secured(*authority.issue(NAME), clients=authority.pem))
    keyring = Keyring("shop/keys@1", chain=chain, key=key) if shown else Keyring("shop/keys@1", authority.pem)
    site = await net.site(asking(endpoint.port, EndpointTls(keyring="shop/keys@1"), keyring))
    assert await status(await net.client(site)) == (200 if shown else 502)


async def test_connections_are_kept_and_new_ones_go_on_with_a_session(net: Net) -> None:
    authority = Authority()
    endpoint = await listening(net, secured(*authority.issue(NAME)))
    site = await net.site(asking(endpoint.port, VERIFIED, Keyring("shop/keys@1", authority.pem)))
    client = await net.client(site)
    for _ in range(3):
        assert await status(client) == 200
    [first] = endpoint.peers
    [pool] = site.live.upstreams[WEB].pools
    pool.empty()
    assert await status(client) == 200
    assert first.lost
    second = endpoint.peers[1].transport.get_extra_info("ssl_object")
    assert second.session_reused


async def test_a_changed_secret_ends_connections_and_sessions_and_no_request(net: Net) -> None:
    authority, other = Authority(), Authority("other")
    endpoint = await listening(net, secured(*authority.issue(NAME)))
    site = await net.site(asking(endpoint.port, VERIFIED, Keyring("shop/keys@1", authority.pem)))
    client = await net.client(site)
    assert await status(client) == 200
    site.serve(asking(endpoint.port, VERIFIED, Keyring("shop/keys@1", authority.pem)))
    assert await status(client) == 200
    assert len(endpoint.peers) == 1
    renamed = msgspec.structs.replace(VERIFIED, keyring="shop/keys@2")
    site.serve(asking(endpoint.port, renamed, Keyring("shop/keys@2", other.pem)))
    assert await status(client) == 502
    both = msgspec.structs.replace(VERIFIED, keyring="shop/keys@3")
    site.serve(asking(endpoint.port, both, Keyring("shop/keys@3", other.pem + authority.pem)))
    assert await status(client) == 200


async def test_a_context_is_made_once_and_kept_while_its_terms_stay(net: Net) -> None:
    authority = Authority()
    endpoint = await listening(net, secured(*authority.issue(NAME)))
    keyring = Keyring("shop/keys@1", authority.pem)
    site = await net.site(asking(endpoint.port, VERIFIED, keyring))
    await status(await net.client(site))
    [pool] = site.live.upstreams[WEB].pools
    made = pool.context()
    site.serve(asking(endpoint.port, VERIFIED, keyring))
    assert pool.context() is made


@pytest.mark.parametrize(
    ("versions", "good"), [(("TLSv1.2",), False), (("TLSv1.3",), True), (("TLSv1.2", "TLSv1.3"), True)]
)
async def test_versions_are_those_that_are_asked_for(net: Net, versions: tuple[str, ...], good: bool) -> None:
    tls = secured(*Authority().issue(NAME))
    tls.context.minimum_version = ssl.TLSVersion.TLSv1_3
    endpoint = await listening(net, tls)
    site = await net.site(asking(endpoint.port, EndpointTls(protocols=versions)))
    assert await status(await net.client(site)) == (200 if good else 502)


async def test_ciphers_are_those_that_are_asked_for(net: Net) -> None:
    tls = secured(*Authority().issue(NAME))
    tls.context.maximum_version = ssl.TLSVersion.TLSv1_2
    endpoint = await listening(net, tls)
    site = await net.site(asking(endpoint.port, EndpointTls(ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")))
    assert await status(await net.client(site)) == 200
    assert endpoint.peers[0].transport.get_extra_info("cipher")[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"


async def test_terms_that_openssl_does_not_take_are_502_and_cost_nobody_else(net: Net) -> None:
    endpoint = await listening(net, secured(*Authority().issue(NAME)))
    site = await net.site(asking(endpoint.port, EndpointTls(ciphers="NONSENSE")))
    client = await net.client(site)
    assert await status(client) == 502
    assert (await site.line())["reason"] == "endpoint_tls"


@pytest.mark.parametrize("good", [True, False])
async def test_checks_are_done_over_tls_and_an_unverified_endpoint_fails_them(net: Net, good: bool) -> None:
    authority = Authority()
    endpoint = await listening(net, secured(*authority.issue(NAME if good else "other.shop.svc")))
    policy = UpstreamPolicy(check=Check(interval=0.01, failures=1))
    site = await net.site(asking(endpoint.port, VERIFIED, Keyring("shop/keys@1", authority.pem), policy=policy))
    Checks(site.tasks).follow(site.live.upstreams.values())
    [pool] = site.live.upstreams[WEB].pools
    tally = site.live.upstreams[WEB].tally
    await eventually(lambda: tally.checks_passed + tally.checks_failed > 1, what="two checks")
    assert pool.health.failing is not good


async def test_the_proxy_protocol_is_spoken_before_tls(net: Net) -> None:
    introduced: list[bytes] = []

    async def read(peer: Peer) -> None:
        introduced.append(await peer.until(b"\r\n"))
        introduced.append(await peer.exactly(1))

    endpoint = await net.endpoint(read)
    site = await net.site(asking(endpoint.port, None, policy=UpstreamPolicy(announce=ProxyVersion.V1)))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(introduced) == 2, what="an introduction and a handshake")
    assert introduced[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert introduced[1] == b"\x16"
