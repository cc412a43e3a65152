"""The messages of the configuration stream, and the lines that they travel in."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import certificate
from pieces import cuts, in_pieces
from portway_proxy import codec
from portway_proxy.snapshot import Endpoint, Snapshot, Upstream
from portway_proxy.stream import (
    NOWHERE,
    Ack,
    BadMessage,
    DeltaMessage,
    Hello,
    Lines,
    Message,
    Ping,
    Position,
    Refusal,
    SnapshotMessage,
    Verdict,
    decode,
    decode_ack,
    encode,
    valid_node,
)

SNAPSHOT = Snapshot(
    upstreams=(Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 80), Endpoint("fd00::1", 80, "a"))),),
    certificates=(certificate("shop/web", "shop.example"),),
)
MESSAGES: tuple[Message, ...] = (
    Hello("ab", 1, "portway/1", 7, codec.digest(SNAPSHOT), same=True),
    SnapshotMessage(7, codec.digest(SNAPSHOT), SNAPSHOT),
    DeltaMessage("a" * 32, 8, "b" * 32, SNAPSHOT.upstreams),
    Ping(8),
    Refusal("not\ntoday"),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_one_line_and_comes_back_as_it_was(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == message


def test_a_snapshot_keeps_its_digest_on_the_way() -> None:
    found = decode(encode(MESSAGES[1]))
    assert isinstance(found, SnapshotMessage)
    assert codec.digest(found.snapshot) == found.hash


@pytest.mark.parametrize(
    "line", [b"", b"x", b"{}", b"[]", b"null", b'{"type":7}', b'{"type":"ping"}', b'{"v":1}', b"\xff"]
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(line)


def test_a_type_that_only_newer_proxies_know_is_no_fault() -> None:
    assert decode(b'{"type":"weather","rain":true}') is None


def test_no_message_shows_a_key() -> None:
    assert "PRIVATE KEY" not in repr(MESSAGES[1])
    with pytest.raises(BadMessage) as refused:
        decode(encode(MESSAGES[1]).replace(b'"not_after":2000000000', b'"not_after":"2000000000"'))
    assert "PRIVATE KEY" not in str(refused.value)


@given(st.lists(st.binary().map(lambda data: data.replace(b"\n", b"")).filter(bool)), cuts)
def test_lines_are_the_same_wherever_they_are_cut(parts: list[bytes], places: list[float]) -> None:
    data = b"".join(part + b"\n" for part in parts)
    lines = Lines()
    assert [line for piece in in_pieces(data, places) for line in lines.feed(piece)] == parts


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    lines = Lines(longest=100)
    assert list(lines.feed(b"a" * 99 + b"\n" + b"b" * 100)) == [b"a" * 99]
    with pytest.raises(BadMessage, match="more than 100 bytes"):
        list(lines.feed(b"b"))


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (f'"ab12:7:{"c" * 32}"', Position("ab12", 7, "c" * 32)),
        (f" ab12:7:{'c' * 32} ", Position("ab12", 7, "c" * 32)),
        (str(NOWHERE), NOWHERE),
        ("", None),
        ("*", None),
        (f'W/"ab12:7:{"c" * 32}"', None),
        (f'"ab12:-7:{"c" * 32}"', None),
        (f'"ab12:\N{ARABIC-INDIC DIGIT SEVEN}:{"c" * 32}"', None),
        (f'"AB12:7:{"c" * 32}"', None),
        ('"ab12:7:cc"', None),
    ],
)
def test_a_position_is_read_from_if_none_match(text: str, position: Position | None) -> None:
    assert Position.parse(text) == position


def test_a_position_is_written_as_it_is_read() -> None:
    position = Position("ab12", 7, "c" * 32)
    assert Position.parse(str(position)) == position


def test_an_acknowledgement_comes_back_as_it_was() -> None:
    ack = Ack("proxy-0", "ab", 7, "c" * 32, Verdict.REJECTED, "because", "Ingress shop/web", 1.5)
    assert decode_ack(msgspec.json.encode(ack)) == ack


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"node":"a"}',
        b'{"node":"a","epoch":"b","v":1,"hash":"c","status":"maybe"}',
        b'{"node":"../a","epoch":"b","v":1,"hash":"c","status":"applied"}',
        b'{"node":"","epoch":"b","v":1,"hash":"c","status":"applied"}',
    ],
)
def test_what_is_no_acknowledgement_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_ack(body)


@pytest.mark.parametrize("name", ["a", "portway-proxy-5d8f7c-x2x9z", "ip-10-0-0-1.internal", "A_1"])
def test_the_name_of_every_pod_may_be_a_proxys(name: str) -> None:
    assert valid_node(name)


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a b", "a\n", "a/b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a" * 254]
)
def test_what_could_break_a_log_or_a_metric_may_not(name: str) -> None:
    assert not valid_node(name)
