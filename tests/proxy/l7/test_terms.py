from __future__ import annotations

import pytest

from portway_proxy.l7.pool import Pool
from portway_proxy.l7.terms import Terms
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Capacity,
    Endpoint,
    HashOn,
    HashSource,
    Upstream,
    UpstreamPolicy,
)
from portway_proxy.upstreams import LiveUpstream
from worker_parts import Parts

A, B = Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)
HEAD = b"GET /a?b=1 HTTP/1.1\r\nHost: h\r\nX-User: ann\r\nCookie: session=7; portway=x\r\n\r\n"


def terms(policy: UpstreamPolicy | None = None, balance: Balance = Balance.ROUND_ROBIN, workers: int = 1) -> Terms:
    found = Terms.of(Upstream("shop/web:80", balance=balance, policy=policy), b"key", workers)
    assert found is not None
    return found


def pools(*endpoints: Endpoint) -> tuple[Pool, ...]:
    return LiveUpstream(Upstream("shop/web:80", endpoints=endpoints)).pools


@pytest.mark.parametrize("balance", [balance for balance in Balance if balance is not Balance.HASH])
@pytest.mark.parametrize("policy", [None, UpstreamPolicy(slow_start=5.0)])
def test_an_upstream_to_which_all_requests_are_alike_has_no_terms(
    balance: Balance, policy: UpstreamPolicy | None
) -> None:
    assert Terms.of(Upstream("shop/web:80", balance=balance, policy=policy), b"key", 1) is None


@pytest.mark.parametrize(
    ("on", "key"),
    [
        (None, b"192.0.2.1"),
        (HashOn(), b"192.0.2.1"),
        (HashOn(HashSource.URI), b"/a?b=1"),
        (HashOn(HashSource.HEADER, "x-USER"), b"ann"),
        (HashOn(HashSource.HEADER, "X-Other"), None),
        (HashOn(HashSource.COOKIE, "session"), b"7"),
        (HashOn(HashSource.COOKIE, "Session"), None),
    ],
)
async def test_the_key_of_a_request(on: HashOn | None, key: bytes | None) -> None:
    assert terms(UpstreamPolicy(hash_on=on), Balance.HASH).key(Parts().exchange(HEAD)) == key


async def test_without_a_hash_there_is_no_key() -> None:
    assert terms(UpstreamPolicy(affinity=Affinity())).key(Parts().exchange(HEAD)) is None


async def test_only_a_cookie_of_ours_ties_to_an_endpoint() -> None:
    some = terms(UpstreamPolicy(affinity=Affinity()))
    a, b = pools(A, B)
    some.tie([a, b])
    assert some.sticky
    assert some.pinned(Parts().exchange(HEAD)) is None
    line = some.cookie_for(Parts().exchange(HEAD), b)
    cookie = line.removeprefix(b"Set-Cookie: ").partition(b";")[0]
    again = Parts().exchange(b"GET / HTTP/1.1\r\nHost: h\r\nCookie: %b\r\n\r\n" % cookie)
    assert some.pinned(again) is b
    some.tie([a])
    assert some.pinned(again) is None


def test_who_has_no_room_is_full() -> None:
    a, b = pools(A, B)
    a.connecting = 2
    assert terms(UpstreamPolicy(capacity=Capacity(requests=2))).full([a, b]) == [a]
    assert terms(UpstreamPolicy(capacity=Capacity(connections=2))).full([a, b]) == [a]
    assert terms(UpstreamPolicy(capacity=Capacity(requests=3))).full([a, b]) == []
    assert terms(UpstreamPolicy(affinity=Affinity())).full([a, b]) == []


@pytest.mark.parametrize(
    ("whole", "workers", "part"),
    [
        (Capacity(10, 7, 100), 1, Capacity(10, 7, 100)),
        (Capacity(10, 7, 100), 2, Capacity(5, 3, 50)),
        (Capacity(10, 7, 100), 4, Capacity(2, 1, 25)),
        (Capacity(1, 2, 3), 8, Capacity(1, 1, 1)),
        (Capacity(0, 5, 0), 8, Capacity(0, 1, 0)),
    ],
)
def test_each_worker_gets_an_equal_part_of_a_limit_and_at_least_one(
    whole: Capacity, workers: int, part: Capacity
) -> None:
    assert terms(UpstreamPolicy(capacity=whole), workers=workers).capacity == part
