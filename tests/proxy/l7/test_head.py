from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heads import heads, spoilt_heads
from pieces import cuts, in_pieces
from portway_proxy.errors import BadHead, ClientError, FieldsTooLarge, TargetTooLong
from portway_proxy.l7.fields import RequestRole
from portway_proxy.l7.head import FieldParser, drop_nominated, find_end
from portway_proxy.l7.request import RequestParser
from portway_proxy.settings import Limits

LIMITS = Limits()
SMALL = Limits(request_line=40, field=60, fields=4, head=120)


def end_of(pieces: Iterable[bytes], limits: Limits = LIMITS) -> int:
    """Return where the head ends in what arrives piece by piece, or 0."""
    buffer = bytearray()
    for piece in pieces:
        seen = len(buffer)
        buffer += piece
        end = find_end(buffer, seen, limits)
        if end:
            return end
    return 0


def outcome(pieces: Iterable[bytes], limits: Limits) -> object:
    """Return what becomes of a head that arrives in pieces: nothing yet, a refusal, or what was understood."""
    buffer = b""
    try:
        for piece in pieces:
            seen = len(buffer)
            buffer += piece
            end = find_end(buffer, seen, limits)
            if end:
                head = RequestParser(limits).parse(buffer[:end])
                return end, head.method, head.target, head.host, head.lines, head.length, head.chunked
    except ClientError:
        return "refused"
    return None


def test_a_head_ends_after_its_empty_line() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next"
    assert find_end(data, 0, LIMITS) == data.index(b"GET /next")
    assert find_end(bytearray(data), 0, LIMITS) == data.index(b"GET /next")


@pytest.mark.parametrize("data", [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r", b"\r\n", b"\r"])
def test_an_unfinished_head_waits_for_more(data: bytes) -> None:
    assert find_end(data, 0, LIMITS) == 0


def test_the_end_is_found_across_every_cut() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for cut in range(1, len(data)):
        assert end_of([data[:cut], data[cut:]]) == len(data)
    assert end_of(data[position : position + 1] for position in range(len(data))) == len(data)


@pytest.mark.parametrize("data", [b"\n", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nA: b\nHost: a\r\n", b"GET /\n\nx"])
def test_a_line_that_ends_without_cr_is_refused_before_the_head_is_complete(data: bytes) -> None:
    with pytest.raises(BadHead):
        find_end(data, 0, LIMITS)
    with pytest.raises(BadHead):
        end_of(data[position : position + 1] for position in range(len(data)))


@given(heads | spoilt_heads(), cuts, st.sampled_from([LIMITS, SMALL]))
@example(b"GET /" + b"a" * 26 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [40.99 / 53], SMALL)
def test_any_split_of_a_head_gives_the_same_result(data: bytes, places: list[float], limits: Limits) -> None:
    whole = outcome([data], limits)
    assert outcome(in_pieces(data, places), limits) == whole
    assert outcome((data[position : position + 1] for position in range(len(data))), limits) == whole


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_request_line_may_have_the_length_of_the_limit_and_no_more(step: int) -> None:
    def head(size: int) -> list[bytes]:
        line = b"GET /" + b"a" * (size - 14) + b" HTTP/1.1"
        assert len(line) == size
        data = line + b"\r\nHost: a\r\n\r\n"
        return [data[start : start + step] for start in range(0, len(data), step)]

    assert end_of(head(LIMITS.request_line)) == LIMITS.request_line + 13
    if step < 10_000:  # In one piece it is the parser's to refuse.
        with pytest.raises(TargetTooLong):
            end_of(head(LIMITS.request_line + 1))


def test_a_request_line_without_end_is_refused_as_soon_as_it_is_too_long() -> None:
    line = b"GET /" + b"a" * LIMITS.request_line
    assert find_end(line[: LIMITS.request_line], 0, LIMITS) == 0
    with pytest.raises(TargetTooLong):
        find_end(line, 0, LIMITS)


@pytest.mark.parametrize("step", [1000, 100_000])
def test_a_head_may_have_the_length_of_the_limit_and_no_more(step: int) -> None:
    def head(size: int) -> list[bytes]:
        start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
        data = start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"
        assert len(data) == size
        return [data[place : place + step] for place in range(0, len(data), step)]

    assert end_of(head(LIMITS.head)) == LIMITS.head
    with pytest.raises(FieldsTooLarge):
        end_of(head(LIMITS.head + 1))


def test_a_head_without_end_is_refused_as_soon_as_it_is_too_long() -> None:
    data = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000
    assert find_end(data[: LIMITS.head], 0, LIMITS) == 0
    with pytest.raises(FieldsTooLarge):
        find_end(data[: LIMITS.head + 1], 0, LIMITS)


# --- fields


class Parser(FieldParser):
    """Understands HOST, passes on and drops the rest as told."""

    __slots__ = ("asked", "taken")

    def __init__(self) -> None:
        super().__init__(self._say, {RequestRole.HOST: Parser._host})
        self.asked: list[bytes] = []
        self.taken: list[bytes] = []

    def _say(self, name: bytes) -> int:
        self.asked.append(name)
        return {b"Host": RequestRole.HOST, b"TE": RequestRole.DROP}.get(name, RequestRole.PASS)

    def _host(self, _: bytes, value: bytes) -> None:
        self.taken.append(value)


def test_fields_are_passed_on_dropped_or_understood() -> None:
    parser = Parser()
    lines: list[bytes] = []
    parser._begin(b"", lines)
    for name, value in ((b"Host", b"a"), (b"TE", b"trailers"), (b"aCCept", b"*/*"), (b"X", b"")):
        parser.on_header(name, value)
    assert lines == [b"aCCept: */*\r\n", b"X: \r\n"]
    assert parser.taken == [b"a"]


def test_white_space_after_a_value_is_not_part_of_it() -> None:
    parser = Parser()
    lines: list[bytes] = []
    parser._begin(b"Host: a \r\n\r\n", lines)
    parser.on_header(b"Host", b"a \t ")
    parser.on_header(b"X", b"b\t")
    assert parser.taken == [b"a"]
    assert lines == [b"X: b\r\n"]


def test_a_parser_asks_once_for_a_spelling_and_remembers_a_bounded_number() -> None:
    parser = Parser()
    parser._begin(b"", [])
    for _ in range(3):
        parser.on_header(b"Accept", b"")
    assert parser.asked == [b"Accept"]
    for number in range(5000):
        parser.on_header(b"X-%d" % number, b"")
    assert len(parser._roles) <= 1024
    for number in range(3):
        parser.on_header(b"Y" * 1000 + b"%d" % number, b"")
    assert max(map(len, parser._roles)) <= 64


def test_nominated_fields_go_and_others_of_similar_names_stay() -> None:
    lines = [b"Foo: a\r\n", b"foo-bar: b\r\n", b"X-Foo: foo\r\n", b"FOO: c\r\n", b"Bar:d\r\n"]
    drop_nominated(lines, [b"foo", b"bar", b"absent"])
    assert lines == [b"foo-bar: b\r\n", b"X-Foo: foo\r\n"]


def test_many_nominations_cost_each_field_one_look_up() -> None:
    class Name(bytes):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return super().__eq__(other)

        __hash__ = bytes.__hash__

    lines = [b"X-%d: a\r\n" % number for number in range(90)]
    drop_nominated(lines, [Name(b"n%d" % number) for number in range(2000)])
    assert len(lines) == 90
    assert Name.compared < 200
