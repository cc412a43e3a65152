from __future__ import annotations

from collections.abc import Iterable

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pieces import cuts, in_pieces
from portway_proxy.errors import BadChunk
from portway_proxy.l7.framing import EMPTY, LAST_CHUNK, Chunked, Framing, Length, UntilClose, chunk, last_chunk
from portway_proxy.settings import Limits

LIMITS = Limits()
SMALL = Limits(trailers=40)


def taken(framing: Framing, pieces: Iterable[bytes]) -> tuple[bytes, int, bool]:
    """Return the payload, how many bytes belong to the body, and whether it is done."""
    out: list[bytes] = []
    used = 0
    for piece in pieces:
        took = framing.take(piece, out)
        used += took
        assert 0 <= took <= len(piece)
        assert framing.done or took == len(piece)
        if framing.done:
            break
    assert b"" not in out
    return b"".join(out), used, framing.done


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[position : position + 1] for position in range(len(data)))


# --- length


@given(st.binary(max_size=60), st.integers(0, 50), cuts)
def test_a_body_of_known_length_takes_that_much_in_any_split(data: bytes, length: int, places: list[float]) -> None:
    expected = (data[:length], min(length, len(data)), length <= len(data))
    if length:
        assert taken(Length(length), in_pieces(data, places)) == expected
    else:
        assert Length(0).done


def test_an_empty_body_is_done_and_takes_nothing() -> None:
    out: list[bytes] = []
    assert EMPTY.done
    assert EMPTY.take(b"GET / HTTP/1.1", out) == 0
    assert (out, EMPTY.done, EMPTY.remaining) == ([], True, 0)


def test_a_length_of_any_size_is_a_number_and_no_allocation() -> None:
    framing = Length(999_999_999_999_999_999)
    assert taken(framing, [b"x" * 10]) == (b"x" * 10, 10, False)
    assert framing.remaining == 999_999_999_999_999_989


# --- until the end of the connection


@given(st.lists(st.binary(min_size=1, max_size=9)))
def test_a_body_without_a_frame_takes_everything_and_is_never_done(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert taken(UntilClose(), pieces) == (data, len(data), False)


# --- chunks


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"05\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5;ext\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b'5;a=b;c="d e"\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5 ; a\r\nhello\r\n0\t;\r\n\r\n", b"hello"),
        (b"5;\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"hello"),
    ],
)
def test_chunks_are_their_payload(data: bytes, payload: bytes) -> None:
    assert taken(Chunked(LIMITS), [data]) == (payload, len(data), True)
    assert taken(Chunked(LIMITS), bytewise(data)) == (payload, len(data), True)
    assert taken(Chunked(LIMITS), [data + b"GET / HTTP/1.1"]) == (payload, len(data), True)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"0x5\r\nhello\r\n",
        b"-1\r\n",
        b"+5\r\nhello\r\n",
        b"0_5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"\t5\r\nhello\r\n",
        b"5\t\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"5,5\r\nhello\r\n",
        b"5.\r\nhello\r\n",
        b"5g\r\nhello\r\n",
        b"\xef\xbc\x95\r\nhello\r\n",
        b"\xb9\r\nh\r\n",
        b"00000000000000005\r\nhello\r\n",
        b"10000000000000000\r\n",
        b"fffffffffffffffff\r\n",
        b"5\nhello\r\n",
        b"5;a\nhello\r\n",
        b"5\r\r\nhello\r\n",
        b"5\rX\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;a\x00\r\nhello\r\n",
        b"5;a\x0b\r\nhello\r\n",
        b"5;a\x7f\r\nhello\r\n",
        b"5\x00\r\nhello\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello \r\n0\r\n\r\n",
        b"5\r\nhello\r\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"6\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\n X: a\r\n\r\n",
        b"0\r\nX: a\r\n b\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\n: a\r\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nX\x80: a\r\n\r\n",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_bad_chunk_is_refused_in_one_piece_and_byte_by_byte(data: bytes) -> None:
    with pytest.raises(BadChunk):
        taken(Chunked(LIMITS), [data])
    with pytest.raises(BadChunk):
        taken(Chunked(LIMITS), bytewise(data))


@pytest.mark.parametrize("data", [b"5\r\nhelloX", b"5\r\nhello\rX", b"5\rX", b"0\r\nX: a\rb"])
def test_what_cannot_become_a_chunk_any_more_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadChunk):
        taken(Chunked(LIMITS), bytewise(data))


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";x=y", b' ; a="b"']),
    st.sampled_from([b"", b"X-Sum: 1\r\n", b"A:\r\nB: c\r\n"]),
    st.binary(max_size=10),
    cuts,
)
def test_chunks_round_trip_in_any_split(
    payloads: list[bytes], extension: bytes, trailers: bytes, rest: bytes, places: list[float]
) -> None:
    body = b"".join(b"%X%b\r\n%b\r\n" % (len(payload), extension, payload) for payload in payloads)
    body += b"0%b\r\n%b\r\n" % (extension, trailers)
    expected = (b"".join(payloads), len(body), True)
    assert taken(Chunked(LIMITS), in_pieces(body + rest, places)) == expected
    assert taken(Chunked(LIMITS), bytewise(body + rest)) == expected


fragments = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b"\r",
            b"\n",
            b"0",
            b"5",
            b"a",
            b"1",
            b"hello",
            b";x",
            b" ",
            b"\t",
            b"X: y",
            b":",
            b"x" * 30,
            b"\x00",
            b"-",
        ]
    ),
    max_size=14,
).map(b"".join)


def outcome(pieces: Iterable[bytes]) -> object:
    try:
        return taken(Chunked(SMALL), pieces)
    except BadChunk:
        return "refused"


@given(fragments | st.binary(max_size=30), cuts)
@example(b"0\r\n" + b"x" * 39 + b":\r\n\r\n", [0.5])
@example(b"5;" + b"x" * 4094 + b"\r\nhello\r\n0\r\n\r\n", [0.0])
@example(b"5;" + b"x" * 4095 + b"\r\nhello\r\n0\r\n\r\n", [0.0])
def test_any_split_of_a_chunked_body_gives_the_same_result(data: bytes, places: list[float]) -> None:
    whole = outcome([data]) if data else (b"", 0, False)
    split = outcome(in_pieces(data, places))
    single = outcome(bytewise(data))
    # What is incomplete may already be known to be bad, the sooner the finer it is cut; nothing else may differ.
    for other in (split, single):
        assert other == whole or (other == "refused" and isinstance(whole, tuple) and not whole[2])
        if whole == "refused" or (isinstance(whole, tuple) and whole[2]):
            assert other == whole


@given(fragments)
def test_a_chunked_body_that_we_accept_h11_reads_the_same(data: bytes) -> None:
    try:
        payload, used, done = taken(Chunked(LIMITS), [data]) if data else (b"", 0, False)
    except BadChunk:
        return
    if not done:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(connection.next_event(), h11.Request)
    read = b""
    while isinstance(event := connection.next_event(), h11.Data):
        read += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert read == payload
    assert connection.trailing_data[0] == data[used:]


# --- limits of chunked bodies


def test_a_size_line_may_be_as_long_as_the_limit() -> None:
    def body(size: int) -> bytes:
        return b"1;" + b"e" * (size - 2) + b"\r\na\r\n0\r\n\r\n"

    for pieces in ([body(4096)], bytewise(body(4096))):
        assert taken(Chunked(LIMITS), pieces)[0] == b"a"
    for pieces in ([body(4097)], bytewise(body(4097))):
        with pytest.raises(BadChunk):
            taken(Chunked(LIMITS), pieces)


def test_a_size_line_without_end_is_not_collected_for_ever() -> None:
    with pytest.raises(BadChunk):
        taken(Chunked(LIMITS), bytewise(b"0" * 5000))


def test_extensions_are_bounded_over_the_whole_body() -> None:
    framing = Chunked(LIMITS)
    taken(framing, [b"1;ee\r\na\r\n" * 5000])  # 3 bytes each.
    with pytest.raises(BadChunk):
        taken(framing, [b"1;ee\r\na\r\n" * 500])


def test_many_small_chunks_without_extensions_are_no_offence() -> None:
    assert taken(Chunked(LIMITS), [b"1\r\na\r\n" * 20_000 + LAST_CHUNK])[0] == b"a" * 20_000


def test_trailers_are_bounded_by_their_sum() -> None:
    trailers = b"X: 3456789\r\n"
    count = LIMITS.trailers // 10
    assert taken(Chunked(LIMITS), [b"0\r\n" + trailers * count + b"\r\n"])[2]
    with pytest.raises(BadChunk):
        taken(Chunked(LIMITS), [b"0\r\n" + trailers * (count + 1) + b"\r\n"])


def test_trailers_are_collected_however_they_arrive() -> None:
    data = b"2\r\nhi\r\n0\r\nX: 1\r\nY:\r\n\r\n"
    for pieces in ([data], bytewise(data)):
        framing = Chunked(LIMITS)
        taken(framing, pieces)
        assert framing.trailers == [b"X: 1", b"Y:"]
    assert last_chunk(b"X: 1\r\nY: \r\n") == b"0\r\nX: 1\r\nY: \r\n\r\n"


def test_a_trailer_without_end_is_not_collected_for_ever() -> None:
    with pytest.raises(BadChunk):
        taken(Chunked(LIMITS), bytewise(b"0\r\nX: " + b"y" * 5000))


# --- chunks that leave


def test_a_chunk_is_its_size_and_its_payload() -> None:
    assert chunk([b"hello"]) == b"5\r\nhello\r\n"
    assert chunk([b"x" * 200, b"", b"y"]) == b"c9\r\n" + b"x" * 200 + b"y\r\n"


@given(st.lists(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3), max_size=5))
def test_chunks_that_leave_are_read_back(bodies: list[list[bytes]]) -> None:
    data = b"".join(map(chunk, bodies)) + LAST_CHUNK
    assert taken(Chunked(LIMITS), [data]) == (b"".join(map(b"".join, bodies)), len(data), True)
