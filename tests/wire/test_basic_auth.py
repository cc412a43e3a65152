"""Basic authentication on real connections: who passes, what others are told, and what an endpoint gets to see."""

from __future__ import annotations

import asyncio
import base64
import threading

import bcrypt
import msgspec
import pytest

from eventually import eventually
from portway_proxy.passwords import Verifier
from portway_proxy.snapshot import BasicAuth, Credentials, Policy, Snapshot
from wire.peers import Client, Endpoint, echoing
from wire.site import Net, Site, everything_to, prefix, table, upstream

POLICY = Policy(basic=BasicAuth("shop/users", "The Shop"))


def basic(user: str = "ada", password: str = "open sesame") -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def users(*names: str, password: str = "open sesame", name: str = "shop/users") -> Credentials:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    return Credentials(name, tuple((user, hashed) for user in names))


def guarded(endpoint: Endpoint, *credentials: Credentials) -> Snapshot:
    return msgspec.structs.replace(everything_to(endpoint.port, policy=POLICY), credentials=credentials)


async def pair(net: Net) -> tuple[Site, Endpoint, Client]:
    site, endpoint, client = await net.pair()
    site.serve(guarded(endpoint, users("ada")))
    return site, endpoint, client


async def test_who_shows_no_password_is_asked_for_one_and_may_try_again_on_the_connection(net: Net) -> None:
    _, endpoint, client = await pair(net)
    asked = await client.get("/")
    assert (asked.status, asked.get(b"www-authenticate")) == (401, b'Basic realm="The Shop"')
    assert not asked.closes
    assert (await client.get("/", "shop.example", basic())).status == 200
    assert len(endpoint.received) == 1


@pytest.mark.parametrize("line", [basic(password="close"), basic(user="bob"), "Authorization: Bearer x"])
async def test_who_shows_a_wrong_one_is_asked_again(net: Net, line: str) -> None:
    _, endpoint, client = await pair(net)
    for _ in range(2):
        assert (await client.get("/", "shop.example", line)).status == 401
    assert endpoint.received == []


async def test_the_endpoint_does_not_get_to_see_the_password(net: Net) -> None:
    _, endpoint, client = await pair(net)
    for _ in range(2):
        assert (await client.get("/", "shop.example", basic(), "Accept: text/plain")).status == 200
    assert b"accept: text/plain" in endpoint.received[-1].lower()
    assert all(b"authorization" not in received.lower() for received in endpoint.received)


async def test_a_pair_is_hashed_once_however_often_it_is_shown(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, client = await pair(net)
    hashed = count(monkeypatch)
    for _ in range(5):
        assert (await client.get("/", "shop.example", basic())).status == 200
        assert (await client.get("/", "shop.example", basic(password="close"))).status == 401
    assert len(hashed) == 2


async def test_what_was_verified_is_known_after_a_swap_that_leaves_the_secret_as_it_is(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, endpoint, client = await pair(net)
    hashed = count(monkeypatch)
    same = site.live.snapshot.credentials[0]
    assert (await client.get("/", "shop.example", basic())).status == 200
    site.serve(guarded(endpoint, same, users("x", name="shop/zzz")))
    assert (await client.get("/", "shop.example", basic())).status == 200
    assert len(hashed) == 1


async def test_a_changed_secret_counts_at_once(net: Net) -> None:
    site, endpoint, client = await pair(net)
    assert (await client.get("/", "shop.example", basic())).status == 200
    site.serve(guarded(endpoint, users("ada", password="changed")))
    assert (await client.get("/", "shop.example", basic())).status == 401
    assert (await client.get("/", "shop.example", basic(password="changed"))).status == 200


async def test_a_body_waits_for_the_verdict_and_comes_whole(net: Net) -> None:
    site, endpoint, client = await net.pair(echoing)
    site.serve(guarded(endpoint, users("ada")))
    body = b"x" * 300_000
    client.send(b"POST /up HTTP/1.1\r\nHost: shop.example\r\n%b\r\nContent-Length: 300000\r\n\r\n" % basic().encode())
    client.send(body)
    assert (await client.response(b"POST")).body == b"/up" + body


async def test_other_clients_are_served_while_a_password_is_hashed(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    site, endpoint, client = await net.pair()
    routes = [prefix("/private", policy=POLICY), prefix("/")]
    snapshot = table({"": routes}, upstream("shop/web:80", endpoint.port))
    site.serve(msgspec.structs.replace(snapshot, credentials=(users("ada"),)))
    let = hold(monkeypatch)
    other = await net.client(site)
    client.send(b"GET /private HTTP/1.1\r\nHost: shop.example\r\n%b\r\n\r\n" % basic().encode())
    assert (await other.get("/")).status == 200
    let.set()
    assert (await client.response()).status == 200


async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    site, endpoint, client = await pair(net)
    let = hold(monkeypatch)
    client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n%b\r\n\r\n" % basic().encode())
    await eventually(lambda: [some for some in site.clients if some.exchange is not None], what="the request is read")
    client.reset()
    await eventually(lambda: not site.clients, what="the client is gone")
    let.set()
    [verifier] = site.live.rules._kept.verifiers.values()
    await eventually(lambda: not verifier.waiting, what="the verdict is there")
    assert endpoint.received == []
    assert (await site.line())["reason"] == "client_gone"


async def test_when_too_many_wait_the_next_one_is_told_to_come_back(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    site, _, client = await pair(net)
    let = hold(monkeypatch)
    for number in range(32):
        some = await net.client(site)
        line = basic(password=str(number)).encode()
        some.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n%b\r\n\r\n" % line)
    [verifier] = site.live.rules._kept.verifiers.values()
    await eventually(lambda: len(verifier.waiting) == 32, what="all of them wait")
    busy = await client.get("/", "shop.example", basic())
    assert (busy.status, busy.get(b"retry-after")) == (503, b"1")
    let.set()
    await eventually(lambda: not verifier.waiting, what="all of them have their verdict")
    assert (await client.get("/", "shop.example", basic())).status == 200


async def test_no_line_of_the_log_shows_a_password(net: Net) -> None:
    site, _, client = await pair(net)
    await client.get("/", "shop.example", basic())
    await client.get("/", "shop.example", basic(password="close"))
    lines = await site.lines(2)
    assert [line["reason"] for line in lines] == ["", "unauthorized"]
    shown = str(lines)
    assert "sesame" not in shown
    assert basic().removeprefix("Authorization: Basic ") not in shown


def count(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what is hashed from now on."""
    hashed: list[bytes] = []
    verify = Verifier.verify

    def counted(self: Verifier, value: bytes) -> bool:
        hashed.append(value)
        return verify(self, value)

    monkeypatch.setattr(Verifier, "verify", counted)
    return hashed


def hold(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Hold all hashing until the event is set."""
    let = threading.Event()
    verify = Verifier.verify

    def held(self: Verifier, value: bytes) -> bool:
        let.wait(10)
        return verify(self, value)

    monkeypatch.setattr(Verifier, "verify", held)
    return let


async def test_several_connections_with_one_new_pair_are_all_served(net: Net) -> None:
    site, _, _ = await pair(net)
    clients = [await net.client(site) for _ in range(6)]
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(some.get("/", "shop.example", basic()) for some in clients))
    assert {answer.status for answer in answers} == {200}
