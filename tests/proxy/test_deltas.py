"""What leads from one snapshot to another: found, made good and joined, and the digest that comes out of it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy import stream
from portway_proxy.codec import Digest, digest
from portway_proxy.deltas import Changes, Delta, diff, find, join, patch
from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Endpoint, Host, Snapshot, Source, Sources, Upstream
from portway_proxy.stream import DeltaMessage
from snapshots import FULL, histories, snapshots, upstreams

WEB = FULL.upstreams[-1]


def between(before: Snapshot, after: Snapshot) -> Delta:
    return diff(before, after, digest(before), digest(after))


def sent(delta: Delta) -> Delta:
    """Return a delta as it comes over the stream."""
    message = stream.decode(stream.encode(DeltaMessage.of(delta, 7)))
    assert isinstance(message, DeltaMessage)
    return message.delta()


@given(histories())
def test_a_difference_leads_from_one_snapshot_to_the_other(history: list[Snapshot]) -> None:
    before, after = history[:2]
    delta = sent(between(before, after))
    assert delta.wide
    assert patch(before, delta.upstreams, delta.changes) == after
    assert (delta.base, delta.digest) == (digest(before), digest(after))


@given(histories())
def test_differences_that_are_joined_lead_to_where_one_after_the_other_does(history: list[Snapshot]) -> None:
    joined = between(history[0], history[1])
    for before, after in pairwise(history[1:]):
        joined = join(joined, sent(between(before, after)))
    assert patch(history[0], joined.upstreams, joined.changes) == history[-1]
    assert (joined.base, joined.digest) == (digest(history[0]), digest(history[-1]))


@given(histories(), st.booleans(), st.data())
def test_deltas_of_upstreams_alone_are_joined_with_any_others(
    history: list[Snapshot],
    first: bool,
    data: st.DataObject,
) -> None:
    before, after = history[:2]
    wide = between(before, after)
    base = before if first else after
    new = tuple(msgspec.structs.replace(data.draw(upstreams), name=old.name) for old in base.upstreams[:1])
    changed = patch(base, new)
    narrow = Delta(digest(base), digest(changed), new)
    both = join(narrow, between(changed, after)) if first else join(wide, narrow)
    assert patch(before, both.upstreams, both.changes) == (after if first else changed)


@given(histories())
def test_a_digest_is_kept_up_to_date_over_a_delta(history: list[Snapshot]) -> None:
    kept = Digest.of(history[0])
    for before, after in pairwise(history):
        kept = kept.after(before, between(before, after), after)
        assert str(kept) == digest(after)


@given(snapshots, st.data())
def test_a_digest_is_kept_up_to_date_without_reading_the_rest(snapshot: Snapshot, data: st.DataObject) -> None:
    if not snapshot.upstreams:
        return
    old = data.draw(st.sampled_from(snapshot.upstreams))
    new = msgspec.structs.replace(data.draw(upstreams), name=old.name)
    replaced = Digest.of(snapshot)
    replaced.replace(old, new)
    after = patch(snapshot, (new,))
    assert str(replaced) == digest(after)
    assert str(Digest.of(snapshot).after(snapshot, Delta("", "", (new,)), after)) == digest(after)


def test_what_a_delta_leaves_as_it_is_stays_the_same_object() -> None:
    host = Host("shop.example", ())
    patched = patch(FULL, (), Changes(hosts=(host,)))
    assert [one is other for one, other in zip(patched.hosts, FULL.hosts, strict=True)] == [True, True, False]
    assert patched.upstreams is FULL.upstreams
    assert patched.certificates is FULL.certificates
    assert patched.problems is FULL.problems


def test_a_difference_says_no_more_than_what_differs() -> None:
    after = msgspec.structs.replace(FULL, hosts=FULL.hosts[1:], upstreams=(*FULL.upstreams, Upstream("shop/z:80")))
    delta = between(FULL, after)
    assert delta.upstreams == (Upstream("shop/z:80"),)
    assert delta.changes == Changes(gone_hosts=("",))
    assert delta.size == 2
    assert b"PRIVATE KEY" not in stream.encode(DeltaMessage.of(delta, 1))


def test_what_tells_people_where_values_came_from_changes_alone_under_the_same_digest() -> None:
    told = Sources("Ingress shop/web", (Source("basic", ("annotation nginx.ingress.kubernetes.io/auth-type",)),))
    after = msgspec.structs.replace(FULL, sources=(told, *FULL.sources[2:]))
    delta = sent(between(FULL, after))
    assert delta.base == delta.digest
    assert delta.changes == Changes(sources=(told,), gone_sources=("",))
    assert patch(FULL, delta.upstreams, delta.changes) == after
    assert (delta.size, delta.served.changes, FULL.served) == (2, Changes(), msgspec.structs.replace(FULL, sources=()))


def test_an_older_proxy_reads_a_delta_of_upstreams_as_before() -> None:
    line = stream.encode(DeltaMessage("b" * 32, 3, "c" * 32, (WEB,)))
    assert msgspec.json.decode(line).keys() == {"type", "base", "v", "hash", "upstreams"}


def test_neither_a_delta_nor_its_message_shows_a_key() -> None:
    delta = between(Snapshot(), FULL)
    for shown in (repr(delta), repr(DeltaMessage.of(delta, 1))):
        assert "PRIVATE KEY" not in shown


def test_a_patch_replaces_upstreams_in_their_places_and_nothing_else() -> None:
    new = Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.3", 8080),))
    patched = patch(FULL, (new,))
    assert patched.upstreams == (*FULL.upstreams[:-1], new)
    assert msgspec.structs.replace(patched, upstreams=FULL.upstreams) == FULL
    assert FULL.upstreams[-1] == WEB
    assert patch(FULL, ()) == FULL


@pytest.mark.parametrize("names", ["abcdefg", "gfedcba", "dagbecf"])
def test_a_patch_finds_upstreams_in_whatever_order_they_are(names: str) -> None:
    snapshot = Snapshot(upstreams=tuple(map(Upstream, names)))
    new = tuple(Upstream(name, endpoints=(Endpoint("10.0.0.1", 80),)) for name in "bfc")
    patched = patch(snapshot, new)
    assert [upstream.name for upstream in patched.upstreams] == list(names)
    assert {upstream.name for upstream in patched.upstreams if upstream.endpoints} == set("bfc")
    assert find(patched, ["c", "x", "a"]) == {"c": new[2], "a": Upstream("a")}


def test_a_patch_of_an_upstream_that_is_not_there_is_refused_by_name() -> None:
    new = Upstream("shop/new:80")
    with pytest.raises(BadSnapshot, match="shop/new:80"):
        patch(FULL, (WEB, new))
    assert patch(FULL, (new,), Changes()).upstreams[2] == new


def test_a_delta_comes_back_as_it_was() -> None:
    delta = Delta(digest(FULL), "after", (WEB,))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=Delta) == delta
