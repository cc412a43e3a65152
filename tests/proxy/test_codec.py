from __future__ import annotations

import subprocess
import sys
from enum import Enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.codec import SCHEMA, decode, digest, encode
from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import (
    Certificate,
    Endpoint,
    Host,
    Listener,
    Origin,
    Policy,
    Problem,
    Route,
    Snapshot,
    Upstream,
    UpstreamPolicy,
)
from snapshots import FULL, snapshots

WEB = FULL.upstreams[-1]


def envelope(**changes: object) -> bytes:
    """Return the encoded `FULL` with some parts of its envelope replaced."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(encode(FULL), type=dict[str, object]) | changes)


@given(snapshots)
def test_a_snapshot_comes_back_as_it_was_with_its_digest(snapshot: Snapshot) -> None:
    assert decode(encode(snapshot)) == (snapshot, digest(snapshot))


@given(snapshots, snapshots)
def test_digests_are_equal_when_the_content_is_and_only_then(one: Snapshot, other: Snapshot) -> None:
    assert (digest(one) == digest(other)) is (one.served == other.served)


def test_a_proxy_that_does_not_know_where_values_came_from_reads_the_same_digest() -> None:
    assert digest(FULL.served) == digest(FULL)
    assert decode(encode(FULL))[0].sources == FULL.sources != ()


def test_a_digest_is_32_hexadecimal_digits_and_the_same_in_every_process() -> None:
    code = "from snapshots import FULL; from portway_proxy.codec import digest; print(digest(FULL))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert run.stdout.strip() == digest(FULL)
    assert len(digest(FULL)) == 32
    assert int(digest(FULL), 16)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONHASHSEED": "7"}


def test_a_digest_that_is_known_is_not_made_again() -> None:
    assert encode(FULL, digest(FULL)) == encode(FULL)


def test_an_ordinary_upstream_is_small_and_policies_say_only_what_is_asked_for() -> None:
    ordinary = msgspec.msgpack.encode(Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 8080),)))
    assert msgspec.msgpack.decode(ordinary).keys() == {"name", "endpoints"}
    policy = msgspec.msgpack.decode(msgspec.msgpack.encode(UpstreamPolicy(slow_start=30.0)))
    assert policy == {"slow_start": 30.0}


_SAME_EVERYWHERE: tuple[object, ...] = (None, False, True, 0, "", b"", ())


@pytest.mark.parametrize(
    "part", [Snapshot, Host, Route, Policy, Upstream, Endpoint, Listener, Certificate, Problem, Origin]
)
def test_a_field_may_be_added_to_what_snapshots_are_made_of_because_defaults_are_not_said(part: type) -> None:
    assert part.__struct_config__.omit_defaults  # type: ignore[attr-defined]  # every Struct has it
    for field in msgspec.structs.fields(part):
        told_apart = field.default is msgspec.NODEFAULT or isinstance(field.default, Enum)
        assert told_apart or any(field.default is one for one in _SAME_EVERYWHERE), field.name


# --- what is no snapshot


def test_another_schema_is_refused_by_its_number() -> None:
    with pytest.raises(BadSnapshot, match=rf"schema version {SCHEMA + 1}, this proxy knows {SCHEMA}"):
        decode(envelope(schema=SCHEMA + 1))


def test_content_that_was_changed_on_its_way_is_refused() -> None:
    data = encode(FULL)
    assert data.count(b"10.0.0.1") == 1
    with pytest.raises(BadSnapshot, match="has digest"):
        decode(data.replace(b"10.0.0.1", b"10.0.0.9"))
    with pytest.raises(BadSnapshot, match="has digest"):
        decode(envelope(digest="0" * 32))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"{}",
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode(None),
        msgspec.msgpack.encode({"schema": "1", "digest": "", "snapshot": {}}),
        envelope(snapshot=5),
        envelope(snapshot={"hosts": 5}),
        envelope(snapshot={"hosts": [{"name": "a"}]}),
        envelope(snapshot={"upstreams": [{"name": "a", "protocol": "gopher"}]}),
        encode(FULL)[:-1],
        encode(FULL) + b"\x00",
        b"\x91" * 100_000,
        b"\x83\xa6schema\x01\xa6digest\xa0\xa8snapshot" + b"\x81\xa5hosts" + b"\x91" * 100_000,
        b"\x81\xa6digest\xa2\xff\xfe",
    ],
)
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(BadSnapshot):
        decode(data)


@given(st.binary(max_size=60) | st.integers(0, len(encode(FULL)) - 1).map(lambda cut: encode(FULL)[:cut]))
def test_any_bytes_are_a_snapshot_or_a_bad_one(data: bytes) -> None:
    with pytest.raises(BadSnapshot):
        decode(data)


@given(st.integers(0, len(encode(FULL)) - 1), st.integers(1, 255))
def test_a_byte_that_flipped_is_noticed_or_was_of_no_consequence(place: int, flip: int) -> None:
    data = bytearray(encode(FULL))
    data[place] ^= flip
    try:
        snapshot, _ = decode(bytes(data))
    except BadSnapshot:
        return
    assert snapshot.served == FULL.served
