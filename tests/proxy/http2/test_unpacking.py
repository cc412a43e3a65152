from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.http2.codes import Code, ConnectionFault
from portway_proxy.http2.unpacking import Unpacker

_FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b":path", b":method", b"cookie", b"accept", b"x-long-name-of-a-field", b"x"]),
        st.binary(max_size=40) | st.sampled_from([b"GET", b"/", b"a" * 200, b"text/html"]),
        st.booleans(),
    ),
    max_size=12,
)


@given(st.lists(st.tuples(_FIELDS, st.booleans(), st.none() | st.integers(0, 4096)), max_size=12))
def test_blocks_of_another_library_are_read_as_it_meant_them(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]],
) -> None:
    encoder, ours = hpack.Encoder(), Unpacker(1 << 20)
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        meant = [hpack.HeaderTuple(n, v) if keep else hpack.NeverIndexedHeaderTuple(n, v) for n, v, keep in fields]
        data = encoder.encode(meant, huffman=huffman)
        # Twice what is known again, if the table did not change.
        assert ours.unpack(data).fields == [(name, value) for name, value, _ in fields]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=8))
def test_what_another_library_refuses_we_refuse_and_read_alike_what_it_takes(blocks: list[bytes]) -> None:
    theirs, ours = hpack.Decoder(max_header_list_size=1 << 20), Unpacker(1 << 20)
    for data in blocks:
        try:
            meant = [tuple(field) for field in theirs.decode(data, raw=True)]
        except hpack.HPACKError:
            with pytest.raises(ConnectionFault):
                ours.unpack(data)
            return
        try:
            assert ours.unpack(data).fields == meant
        except ConnectionFault as fault:
            # It takes numbers as long as they come; we none beyond what a block may hold.
            assert "too large" in str(fault)  # noqa: PT017
            return


def test_a_block_that_changed_nothing_is_known_again_until_the_table_changes() -> None:
    encoder, ours = hpack.Encoder(), Unpacker(1 << 20)
    fields = [(b":method", b"GET"), (b"x-a", b"1")]
    ours.unpack(encoder.encode(fields))
    same = encoder.encode(fields)
    first = ours.unpack(same)
    assert ours.unpack(same) is first
    ours.unpack(encoder.encode([(b"x-b", b"2")]))
    again = ours.unpack(same)
    assert again is not first
    assert again.fields == [(b":method", b"GET"), (b"x-b", b"2")]


def test_a_list_that_is_too_large_is_read_to_its_end_for_the_sake_of_the_table() -> None:
    encoder, ours = hpack.Encoder(), Unpacker(200)
    block = ours.unpack(encoder.encode([(b"x-a", b"a" * 150), (b"x-b", b"b" * 100), (b"x-c", b"c")]))
    assert (block.oversize, block.fields) == (True, [(b"x-a", b"a" * 150)])
    assert ours.unpack(encoder.encode([(b"x-b", b"b" * 100)])).fields == [(b"x-b", b"b" * 100)]


def test_a_bomb_of_references_holds_no_more_than_the_limit() -> None:
    ours = Unpacker(65536)
    large = b"\x40\x01x" + b"\x7f" + bytes((0x80 | (3900 - 127) & 0x7F, (3900 - 127) >> 7)) + b"v" * 3900
    block = ours.unpack(large + b"\xbe" * 16000)
    assert block.oversize
    assert len(block.fields) < 20


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",  # The index 0.
        b"\xff\x80\x80\x80\x80\x01",  # A number without end.
        b"\xc0",  # An entry that is not there.
        b"\x00\x05ab",  # A name that is cut off.
        b"\x00",
        b"\x00\x81\x00\x01x",  # Huffman's code with wrong padding.
        b"\x82\x20",  # A table resized behind a field.
        b"\x3f\xe2\x1f",  # A table of 4,097 bytes.
    ],
)
def test_a_broken_block_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        Unpacker(65536).unpack(data)
    assert caught.value.code is Code.COMPRESSION_ERROR
