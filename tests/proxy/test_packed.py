"""`packed.py`: deltas by their parts do what whole ones do."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given

from portway_proxy.deltas import Delta, diff
from portway_proxy.packed import Packed, join_packed, pack, packed_delta, patch_packed, precede, unpack
from portway_proxy.snapshot import Endpoint, Snapshot, Upstream
from snapshots import FULL, histories


def between(before: Snapshot, after: Snapshot) -> Packed:
    return packed_delta(diff(before, after, "a", "b"))


@given(histories())
def test_what_is_packed_leads_from_one_snapshot_to_the_other(history: list[Snapshot]) -> None:
    before, after = history[:2]
    assert patch_packed(before, unpack(pack(between(before, after)))) == after


@given(histories())
def test_what_is_joined_leads_to_where_one_after_the_other_does(history: list[Snapshot]) -> None:
    whole = Packed()
    for before, after in pairwise(history):
        whole = join_packed(whole, between(before, after))
    assert patch_packed(history[0], whole) == history[-1]
    steps = [between(before, after) for before, after in pairwise(history)]
    last = steps.pop()
    while steps:
        last = precede(last, steps.pop())
    assert patch_packed(history[0], last) == history[-1]


def test_what_stays_is_the_same_object() -> None:
    web = msgspec.structs.replace(FULL.upstreams[-1], endpoints=(Endpoint("10.9.9.9", 1),))
    after = patch_packed(FULL, packed_delta(Delta("a", "b", (web,))))
    assert after.upstreams[-1] == web
    assert all(one is other for one, other in zip(after.upstreams[:-1], FULL.upstreams[:-1], strict=True))
    assert after.hosts is FULL.hosts
    assert patch_packed(FULL, Packed()) == FULL


def test_the_size_is_the_number_of_parts() -> None:
    assert Packed().size == 0
    assert packed_delta(Delta("a", "b", (Upstream("a/b:1"), Upstream("a/c:1")))).size == 2
    parts = (FULL.hosts, FULL.upstreams, FULL.certificates, FULL.sources)
    assert between(FULL, Snapshot()).size == sum(map(len, parts))
