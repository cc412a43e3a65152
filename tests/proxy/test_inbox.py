"""What is still to be applied: deltas and snapshots merged, so that the result is what one after the other gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy import codec, deltas
from portway_proxy.inbox import Gap, Inbox
from portway_proxy.snapshot import Endpoint, Snapshot, Upstream
from portway_proxy.stream import DeltaMessage, SnapshotMessage, decode, encode

NAMES = ("shop/a:80", "shop/b:80", "shop/c:80")

endpoints = st.lists(st.integers(1, 65535).map(lambda port: Endpoint("10.0.0.1", port)), max_size=3, unique=True)
contents = st.tuples(*(endpoints.map(tuple) for _ in NAMES))
changes = st.dictionaries(st.sampled_from(NAMES), endpoints.map(tuple), min_size=1)


def snapshot_of(content: Sequence[tuple[Endpoint, ...]]) -> Snapshot:
    return Snapshot(upstreams=tuple(Upstream(name, endpoints=one) for name, one in zip(NAMES, content, strict=True)))


def delta(before: Snapshot, change: Mapping[str, tuple[Endpoint, ...]], version: int) -> tuple[Snapshot, DeltaMessage]:
    """Return what a change makes of a snapshot, and the message that says so."""
    upstreams = tuple(Upstream(name, endpoints=one) for name, one in change.items())
    after = deltas.patch(before, upstreams)
    return after, DeltaMessage(codec.digest(before), version, codec.digest(after), upstreams)


def apply(served: Snapshot, inbox: Inbox) -> Snapshot:
    """Return what a proxy serves after it applied what the inbox has."""
    pending = inbox.take()
    if pending is None:
        return served
    change = pending.change
    if isinstance(change, SnapshotMessage):
        served = change.snapshot
    else:
        assert change.base == codec.digest(served)
        served = deltas.patch(served, change.upstreams)
    assert codec.digest(served) == change.hash
    return served


@given(contents, st.lists(st.tuples(changes, st.booleans(), st.booleans()), max_size=12))
def test_deltas_and_snapshots_however_merged_end_in_what_was_published(
    content: Sequence[tuple[Endpoint, ...]],
    steps: list[tuple[dict[str, tuple[Endpoint, ...]], bool, bool]],
) -> None:
    published = served = snapshot_of(content)
    inbox = Inbox()
    for version, (change, whole, now) in enumerate(steps, 1):
        published, message = delta(published, change, version)
        sent = SnapshotMessage(version, message.hash, published) if whole else message
        # As it comes over the stream: what is merged is what was decoded.
        received = decode(encode(sent))
        assert isinstance(received, SnapshotMessage | DeltaMessage)
        inbox.put("ab", received)
        if now:
            served = apply(served, inbox)
    served = apply(served, inbox)
    assert served == published
    assert codec.digest(served) == codec.digest(published)
    assert not inbox


FIRST = snapshot_of([(), (), ()])
ONE = {NAMES[0]: (Endpoint("10.0.0.1", 1),)}
TWO = {NAMES[1]: (Endpoint("10.0.0.1", 2),)}


def test_deltas_that_wait_are_one_with_the_newest_version() -> None:
    second, one = delta(FIRST, ONE, 1)
    third, two = delta(second, TWO, 2)
    inbox = Inbox()
    inbox.put("ab", one)
    inbox.put("ab", two)
    taken = inbox.take()
    assert taken is not None
    assert isinstance(taken.change, DeltaMessage)
    assert (taken.epoch, taken.change.base, taken.change.v) == ("ab", codec.digest(FIRST), 2)
    assert taken.change.hash == codec.digest(third)
    assert {upstream.name for upstream in taken.change.upstreams} == set(NAMES[:2])


def test_a_snapshot_takes_the_place_of_what_waits() -> None:
    second, one = delta(FIRST, ONE, 1)
    inbox = Inbox()
    inbox.put("ab", one)
    inbox.put("cd", SnapshotMessage(9, codec.digest(second), second))
    taken = inbox.take()
    assert taken is not None
    assert (taken.epoch, taken.change.v) == ("cd", 9)
    assert inbox.take() is None


def test_a_delta_that_does_not_follow_from_what_waits_is_a_gap() -> None:
    second, _ = delta(FIRST, ONE, 1)
    _, two = delta(second, TWO, 2)
    for before in (SnapshotMessage(1, codec.digest(FIRST), FIRST), DeltaMessage("a" * 32, 1, "b" * 32, ())):
        inbox = Inbox()
        inbox.put("ab", before)
        with pytest.raises(Gap):
            inbox.put("ab", two)


def test_a_delta_of_an_upstream_that_the_waiting_snapshot_lacks_is_a_gap() -> None:
    inbox = Inbox()
    inbox.put("ab", SnapshotMessage(1, "a" * 32, FIRST))
    with pytest.raises(Gap, match="shop/z:80"):
        inbox.put("ab", DeltaMessage("a" * 32, 2, "b" * 32, (Upstream("shop/z:80"),)))
