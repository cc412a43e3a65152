from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.http2.packing import NO_TABLE, pack, pack_status

_TEXT = st.binary(max_size=300)
_NAMES = st.sampled_from(
    [b":path", b":status", b"content-type", b"cookie", b"x-y", b"", b"n" * 200, b"accept-encoding"]
)


@given(st.lists(st.tuples(_NAMES, _TEXT), max_size=10))
def test_another_library_reads_what_we_pack_and_its_table_stays_empty(fields: list[tuple[bytes, bytes]]) -> None:
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    assert [tuple(field) for field in decoder.decode(NO_TABLE + pack(fields), raw=True)] == fields
    assert not decoder.header_table.dynamic_entries


def test_usual_statuses_are_one_byte() -> None:
    assert [len(pack_status(status)) for status in (200, 204, 206, 304, 400, 404, 500)] == [1] * 7
    assert hpack.Decoder().decode(pack_status(418), raw=True) == [(b":status", b"418")]


def test_secrets_are_never_indexed_by_anybody() -> None:
    for name in (b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"):
        assert not any(field.indexable for field in hpack.Decoder().decode(pack([(name, b"s")]), raw=True))
