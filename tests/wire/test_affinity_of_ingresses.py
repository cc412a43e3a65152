"""Affinity and hashes as annotations of an Ingress ask for them: who is tied to what, and by which cookie."""

from __future__ import annotations

import re
from collections import Counter
from email.utils import parsedate_to_datetime

import msgspec
import pytest

from eventually import eventually
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Canary,
    HashOn,
    HashSource,
    PathMatch,
    Policy,
    Route,
    UpstreamPolicy,
)
from wire.peers import Client, Endpoint, Message
from wire.several import Several, saying, several
from wire.site import ORIGIN, WEB, Net, prefix, table, upstream

SPREAD = Affinity("INGRESSCOOKIE", "", same_site="", spreads=True, stays=True)
NAMED = Affinity("INGRESSCOOKIE", "", same_site="", stays=True)
OTHER = "shop/canary:80"


def cookie_of(response: Message) -> str:
    return (response.get(b"set-cookie") or b"").partition(b";")[0].decode()


async def with_cookie(client: Client, cookie: str) -> Message:
    return await client.get("/", "shop.example", *([f"Cookie: {cookie}"] if cookie else []))


async def newcomers(client: Client, count: int) -> dict[str, bytes]:
    """Return to which letter each of so many new cookies ties."""
    found = [await client.get() for _ in range(count)]
    return {cookie_of(response): response.body for response in found}


# --- balanced


async def test_a_cookie_is_given_once_and_keeps_its_client_where_it_is(net: Net) -> None:
    some = await several(net, "abc", UpstreamPolicy(affinity=SPREAD))
    client = await some.client()
    tied = await newcomers(client, 30)
    assert len(tied) == 30
    assert set(tied.values()) == {b"a", b"b", b"c"}
    for cookie, letter in tied.items():
        again = await with_cookie(await some.client(), f"theme=dark; {cookie}")
        assert (again.body, again.get(b"set-cookie")) == (letter, None)


async def test_an_endpoint_that_comes_gets_a_share_of_the_clients_and_their_cookies_stay(net: Net) -> None:
    some = await several(net, "abcd", UpstreamPolicy(affinity=SPREAD))
    some.serve([endpoint.port for endpoint in some.endpoints[:3]])
    client = await some.client()
    tied = await newcomers(client, 60)
    some.serve()
    moved = Counter[bytes]()
    for cookie, letter in tied.items():
        again = await with_cookie(client, cookie)
        assert again.get(b"set-cookie") is None
        if again.body != letter:
            moved[again.body] += 1
    assert set(moved) == {b"d"}
    assert 0 < moved[b"d"] < 40


@pytest.mark.parametrize("forged", ["INGRESSCOOKIE=", "INGRESSCOOKIE=x", f"INGRESSCOOKIE={'A' * 44}"])
@pytest.mark.parametrize("affinity", [SPREAD, NAMED])
async def test_a_cookie_that_is_not_ours_is_replaced(net: Net, affinity: Affinity, forged: str) -> None:
    some = await several(net, "ab", UpstreamPolicy(affinity=affinity))
    assert cookie_of(await with_cookie(await some.client(), forged)) not in ("", forged)


async def tied_to_a(some: Several) -> tuple[Client, str]:
    """Return a client that is tied to the endpoint `a`, which is gone now."""
    client = await some.client()
    response = await client.get()
    while response.body != b"a":
        response = await client.get()
    some.endpoints[0].refuse()
    for peer in some.endpoints[0].peers:
        peer.close()
    await eventually(lambda: not len(some.live.pools[0]))
    return client, cookie_of(response)


@pytest.mark.parametrize("affinity", [SPREAD, NAMED])
async def test_a_failure_leaves_the_cookie_as_it_is(net: Net, affinity: Affinity) -> None:
    some = await several(net, "ab", UpstreamPolicy(affinity=affinity))
    client, cookie = await tied_to_a(some)
    for _ in range(8):  # The endpoint is ejected meanwhile.
        response = await with_cookie(client, cookie)
        assert (response.body, response.get(b"set-cookie")) == (b"b", None)


@pytest.mark.parametrize("affinity", [SPREAD, NAMED])
async def test_a_failure_changes_the_cookie_where_that_is_asked_for(net: Net, affinity: Affinity) -> None:
    some = await several(net, "ab", UpstreamPolicy(affinity=msgspec.structs.replace(affinity, stays=False)))
    client, cookie = await tied_to_a(some)
    response = await with_cookie(client, cookie)
    assert response.body == b"b"
    assert cookie_of(response) not in ("", cookie)


# --- the cookie itself


async def set_cookie(net: Net, affinity: Affinity, *lines: str, route: Route | None = None) -> list[str]:
    """Return the attributes of the cookie that a client is given."""
    some = await several(net, "a", UpstreamPolicy(affinity=affinity))
    if route is not None:
        one = some.snapshot()
        some.site.serve(table({"": [route]}, *one.upstreams))
    response = await (await some.client()).get("/shop/x", "shop.example", *lines)
    return (response.get(b"set-cookie") or b"").decode().split("; ")[1:]


@pytest.mark.parametrize(
    ("route", "path"),
    [
        (prefix("/shop"), "/shop"),
        (Route("/SHOP(/|$)", PathMatch.REGEX, WEB, ORIGIN), "/"),
        (prefix("/"), "/"),
    ],
)
async def test_the_path_of_the_cookie_is_that_of_the_route(net: Net, route: Route, path: str) -> None:
    assert (await set_cookie(net, SPREAD, route=route))[:2] == [f"Path={path}", "HttpOnly"]


async def test_all_attributes_are_in_the_cookie(net: Net) -> None:
    affinity = Affinity("route", "/a", "shop.example", 60, "None", True, 3600, False, True, True)
    path, domain, age, httponly, expires, *rest = await set_cookie(net, affinity)
    assert (path, domain, age, httponly) == ("Path=/a", "Domain=shop.example", "Max-Age=60", "HttpOnly")
    assert re.fullmatch(r"Expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", expires)
    assert parsedate_to_datetime(expires[8:]).tzinfo is not None
    assert rest == ["SameSite=None", "Secure", "Partitioned"]


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/64.0.1 Safari/537.36", False),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0 Safari/537.36", True),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X) Version/12.1 Mobile/15E148 Safari/604.1", False),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/605.1.15 Version/13.0 Safari/605.1.15", False),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.0 Safari/605.1.15", True),
        ("", True),
    ],
)
async def test_browsers_that_misread_same_site_none_get_none(net: Net, agent: str, said: bool) -> None:
    affinity = msgspec.structs.replace(SPREAD, same_site="None", lenient=True)
    assert ("SameSite=None" in await set_cookie(net, affinity, f"User-Agent: {agent}")) is said


# --- canaries


async def split(net: Net, canary: Canary, affinity: Affinity = SPREAD) -> tuple[Several, Endpoint, Client]:
    some = await several(net, "ab", UpstreamPolicy(affinity=affinity))
    other = await net.endpoint(saying("c"))
    [main] = some.snapshot().upstreams
    tied = msgspec.structs.replace(upstream(OTHER, other.port), policy=some.policy)
    some.site.serve(table({"": [prefix("/", policy=Policy(canary=canary))]}, main, tied))
    return some, other, await some.client()


@pytest.mark.parametrize("affinity", [SPREAD, NAMED])
async def test_a_cookie_keeps_its_client_at_the_canary_or_away_from_it(net: Net, affinity: Affinity) -> None:
    some, _, client = await split(net, Canary(OTHER, weight=50, sticky=True), affinity)
    found = [await client.get() for _ in range(40)]
    tied = {cookie_of(response): response.body for response in found}
    assert b"c" in tied.values()
    assert {b"a", b"b"} & set(tied.values())
    for cookie, letter in tied.items():
        for line in ("X-Canary: always", "X-Canary: never"):
            again = await client.get("/", "shop.example", f"Cookie: {cookie}", line)
            assert (again.body == b"c") is (letter == b"c")
            assert again.get(b"set-cookie") is None
    assert len(some.site.live.upstreams) == 2


async def test_the_canarys_rules_count_before_the_cookie_where_that_is_asked_for(net: Net) -> None:
    _, _, client = await split(net, Canary(OTHER, header="X-Canary"))
    response = await client.get()
    assert response.body != b"c"
    again = await client.get("/", "shop.example", f"Cookie: {cookie_of(response)}", "X-Canary: always")
    assert again.body == b"c"


# --- hashes of texts


async def letters(client: Client, *targets: str) -> list[bytes]:
    return [(await client.get(target)).body for target in targets]


async def test_a_hash_of_a_text_goes_by_its_variables(net: Net) -> None:
    policy = UpstreamPolicy(hash_on=HashOn(HashSource.TEXT, "$arg_user-$http_x_team"))
    some = await several(net, "abcd", policy, Balance.HASH)
    client = await some.client()
    by_user = {
        user: set(await letters(client, f"/a?user={user}", f"/b?user={user}", f"/?user={user}")) for user in "abcdefgh"
    }
    assert {len(found) for found in by_user.values()} == {1}
    assert len(set.union(*by_user.values())) > 1


async def test_requests_in_which_the_text_is_empty_go_in_turn(net: Net) -> None:
    some = await several(net, "abc", UpstreamPolicy(hash_on=HashOn(HashSource.TEXT, "$arg_user")), Balance.HASH)
    assert await some.shares(9) == {"a": 3, "b": 3, "c": 3}


async def test_a_subset_shares_the_requests_of_a_key(net: Net) -> None:
    policy = UpstreamPolicy(hash_on=HashOn(HashSource.TEXT, "$arg_user", 2))
    some = await several(net, "abcd", policy, Balance.HASH)
    client = await some.client()
    groups = {user: frozenset(await letters(client, *[f"/?user={user}"] * 40)) for user in "abcdefghijklmnop"}
    assert len(set(groups.values())) == 2
    assert {len(group) for group in groups.values()} == {2}
