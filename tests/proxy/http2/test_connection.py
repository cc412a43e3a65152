from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http2_peers import GET, End, frames_in, greeted, headers
from portway_proxy.http2 import frames
from portway_proxy.http2.codes import ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITIZED, Code, Kind, Parameter
from portway_proxy.http2.packing import pack
from portway_proxy.http2.terms import Terms

_BLOCK = pack(GET)
_TWO_BYTES = frames.head(1, pack([*GET, (b"content-length", b"2")]), 0)


def _head(number: int, *, end: bool = True) -> bytes:
    return frames.head(number, _BLOCK, END_STREAM if end else 0)


def _fault(end: End) -> Code | None:
    return None if end.connection.fault is None else end.connection.fault.code


def test_a_server_begins_with_its_settings_and_a_wider_window() -> None:
    settings_frame, update = frames_in(End().out())
    assert settings_frame[0] == Kind.SETTINGS
    assert update[:3] == (Kind.WINDOW_UPDATE, 0, 0)


@given(st.lists(st.integers(1, 200), max_size=8))
def test_any_split_of_the_bytes_gives_the_same(cuts: list[int]) -> None:
    whole = b"".join(
        (
            PREFACE,
            frames.settings({Parameter.INITIAL_WINDOW_SIZE: 10}),
            _head(1, end=False),
            frames.data(1, b"abc", 0),
            _head(3),
            frames.data(1, b"def", 0),
            frames.head(1, pack([(b"x-sum", b"6")]), END_STREAM),
        )
    )
    end = End()
    for cut in cuts:
        end.connection.receive(whole[:cut])
        whole = whole[cut:]
    end.connection.receive(whole)
    assert (end.told[1].body, end.told[1].trailers, end.told[1].ended) == (b"abcdef", [(b"x-sum", b"6")], True)
    assert end.told[3].heads == [GET]
    assert _fault(end) is None


def test_an_answer_leaves_in_frames_and_frees_its_stream() -> None:
    end = greeted()
    end.hear(_head(1))
    end.told[1].send_whole(pack([(b":status", b"200")]), b"hello")
    sent = frames_in(end.out())
    assert [(kind, flags, number) for kind, flags, number, _ in sent] == [
        (Kind.HEADERS, END_HEADERS, 1),
        (Kind.DATA, END_STREAM, 1),
    ]
    assert headers(sent[0][3]) == [(b":status", b"200")]
    assert not end.connection.streams


def test_a_head_longer_than_a_frame_goes_on_in_continuations_both_ways() -> None:
    end = greeted()
    long = [*GET, *[(b"x-%d" % index, b"v" * 4000) for index in range(12)]]
    end.hear(frames.head(1, pack(long), END_STREAM))
    assert end.told[1].heads == [long]
    end.told[1].send_head(pack([(b":status", b"200"), *long[4:]]), end=True)
    sent = frames_in(end.out())
    assert [kind for kind, *_ in sent] == [Kind.HEADERS, *[Kind.CONTINUATION] * 2]
    assert headers(b"".join(payload for *_, payload in sent))[1:] == long[4:]


def test_bodies_wait_for_windows_and_leave_by_turns() -> None:
    end = greeted()
    end.hear(frames.settings({Parameter.INITIAL_WINDOW_SIZE: 20}), _head(1), _head(3))
    for number in (1, 3):
        end.told[number].send_head(pack([(b":status", b"200")]), end=False)
        end.told[number].send(b"x" * 50, end=True)
    assert [(number, len(data)) for kind, _, number, data in frames_in(end.out()) if kind == Kind.DATA] == [
        (1, 20),
        (3, 20),
    ]
    assert end.told[1].queued == 30
    sent = end.hear(frames.window_update(3, 100))
    assert [(number, flags, len(data)) for _, flags, number, data in sent] == [
        (3, END_STREAM, 30),
    ]
    assert end.told[3].drained == 1
    sent = end.hear(frames.settings({Parameter.INITIAL_WINDOW_SIZE: 25}))
    assert [(number, len(data)) for kind, _, number, data in sent if kind == Kind.DATA] == [(1, 5)]


def test_a_connection_without_window_still_ends_what_has_no_body_left() -> None:
    end = greeted()
    end.hear(frames.settings({Parameter.INITIAL_WINDOW_SIZE: 1 << 20}), _head(1), _head(3))
    end.told[1].send(b"x" * 70000, end=True)
    end.told[3].send_head(pack([(b":status", b"200")]), end=False)
    end.told[3].send_end(pack([(b"grpc-status", b"0")]))
    sent = frames_in(end.out())
    assert sum(len(data) for kind, _, _, data in sent if kind == Kind.DATA) == 65535
    assert sent[-1][:3] == (Kind.HEADERS, END_HEADERS | END_STREAM, 3)


def test_nothing_of_a_body_leaves_while_the_transport_is_paused() -> None:
    end = greeted()
    end.hear(_head(1))
    end.connection.paused = True
    end.told[1].send_whole(pack([(b":status", b"200")]), b"hello")
    assert [kind for kind, *_ in frames_in(end.out())] == [Kind.HEADERS]
    end.connection.paused = False
    end.connection.pump()
    assert [kind for kind, *_ in frames_in(end.out())] == [Kind.DATA]


def test_a_fast_endpoint_is_not_answered_in_one_go() -> None:
    end = greeted()
    end.hear(frames.window_update(0, 1 << 24), frames.settings({Parameter.INITIAL_WINDOW_SIZE: 1 << 24}), _head(1))
    end.told[1].send(b"x" * 1000000, end=True)
    assert end.connection.more
    assert len(end.out()) < 200000
    while end.connection.more:
        end.connection.pump()
    assert not end.told[1].queued


def test_bodies_are_credited_in_halves_of_the_window_and_padding_at_once() -> None:
    end = greeted(Terms(window=1000, connection_window=100000))
    end.hear(_head(1, end=False))
    assert not end.hear(frames.data(1, b"x" * 400, 0))
    assert end.hear(frames.data(1, b"x" * 200, 0)) == [(Kind.WINDOW_UPDATE, 0, 1, (600).to_bytes(4))]
    end.told[1].slow = True
    padded = frames.frame(Kind.DATA, PADDED, 1, b"\xff" + b"y" * 100 + bytes(255))
    end.hear(padded)
    assert end.hear(padded) == [(Kind.WINDOW_UPDATE, 0, 1, (512).to_bytes(4))]
    assert end.told[1].body == b"x" * 600 + b"y" * 200


def test_what_a_broken_off_stream_never_took_is_given_back_to_the_connection() -> None:
    end = greeted(Terms(window=65536, connection_window=65536))
    end.hear(_head(1, end=False))
    end.told[1].slow = True
    for _ in range(3):
        end.hear(frames.data(1, b"x" * 16384, 0))
    assert end.hear(frames.reset(1, Code.CANCEL)) == [(Kind.WINDOW_UPDATE, 0, 0, (49152).to_bytes(4))]
    assert end.told[1].reset_with is Code.CANCEL


def test_who_was_answered_early_is_told_to_stop() -> None:
    end = greeted()
    end.hear(_head(1, end=False))
    end.told[1].send_whole(pack([(b":status", b"413")]), b"")
    assert [(kind, number, data) for kind, _, number, data in frames_in(end.out())][1:] == [
        (Kind.RST_STREAM, 1, bytes(4))
    ]
    assert not end.hear(frames.data(1, b"what was under way", 0), frames.data(1, b"", END_STREAM))
    assert _fault(end) is None


def test_what_comes_behind_a_reset_of_both_sides_is_a_fault() -> None:
    end = greeted()
    end.hear(_head(1, end=False))
    end.told[1].send_whole(pack([(b":status", b"413")]), b"")
    end.hear(frames.reset(1, Code.CANCEL))
    assert end.hear(frames.data(1, b"x", 0)) == [(Kind.RST_STREAM, 0, 1, Code.STREAM_CLOSED.to_bytes(4))]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frames.data(1, b"", 0), Code.PROTOCOL_ERROR),
        (frames.data(0, b"x", 0), Code.PROTOCOL_ERROR),
        (_head(0), Code.PROTOCOL_ERROR),
        (_head(2), Code.PROTOCOL_ERROR),
        (_head(5) + _head(3), Code.PROTOCOL_ERROR),
        (frames.head(1, b"\x80", END_STREAM), Code.COMPRESSION_ERROR),
        (frames.reset(1, Code.CANCEL), Code.PROTOCOL_ERROR),
        (frames.window_update(1, 1), Code.PROTOCOL_ERROR),
        (frames.window_update(0, 0), Code.PROTOCOL_ERROR),
        (frames.window_update(0, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
        (frames.frame(Kind.CONTINUATION, END_HEADERS, 1, b""), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.SETTINGS, 0, 1, b""), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.SETTINGS, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.GOAWAY, 0, 0, bytes(4)), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
        (frames.settings({Parameter.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
        (frames.settings({Parameter.INITIAL_WINDOW_SIZE: 1 << 31}), Code.FLOW_CONTROL_ERROR),
        (frames.settings({Parameter.MAX_FRAME_SIZE: 100}), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.HEADERS, END_HEADERS | PADDED, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
        (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.HEADERS, 0, 1, b"\x82") + frames.pong(bytes(8)), Code.PROTOCOL_ERROR),
    ],
)
def test_a_fault_of_the_connection_ends_it_with_its_code(sent: bytes, code: Code) -> None:
    end = greeted()
    last = end.hear(sent)[-1]
    assert (last[0], Code(int.from_bytes(last[3][4:8]))) == (Kind.GOAWAY, code)
    assert _fault(end) is code
    assert not end.hear(_head(7))


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + frames.pong(bytes(8)), PREFACE + frames.ANSWERED_SETTINGS]
)
def test_who_does_not_begin_as_clients_do_is_no_client(first: bytes) -> None:
    end = End()
    end.hear(first)
    assert _fault(end) is Code.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (_head(1) + frames.data(1, b"x", 0), Code.STREAM_CLOSED),
        (_head(1) + _head(1), Code.STREAM_CLOSED),
        (_head(1, end=False) + _head(1, end=False), Code.PROTOCOL_ERROR),
        (_head(1, end=False) + frames.window_update(1, 0), Code.PROTOCOL_ERROR),
        (_head(1, end=False) + frames.window_update(1, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
        (_head(1, end=False) + frames.frame(Kind.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.HEADERS, END_HEADERS | PRIORITIZED, 1, b"\0\0\0\x01\x10" + _BLOCK), Code.PROTOCOL_ERROR),
        (
            _TWO_BYTES + frames.data(1, b"x", END_STREAM),
            Code.PROTOCOL_ERROR,
        ),
        (_TWO_BYTES + frames.data(1, b"xyz", 0), Code.PROTOCOL_ERROR),
        (
            _TWO_BYTES + frames.head(1, b"", END_STREAM),
            Code.PROTOCOL_ERROR,
        ),
    ],
)
def test_a_fault_of_a_stream_ends_it_alone(sent: bytes, code: Code) -> None:
    end = greeted()
    assert (Kind.RST_STREAM, 0, 1, code.to_bytes(4)) in end.hear(sent)
    assert end.told.get(1) is None or end.told[1].reset_with is code
    assert _fault(end) is None
    end.hear(_head(3))
    assert end.told[3].heads


def test_streams_beyond_the_limit_are_refused_and_may_be_repeated() -> None:
    end = greeted(Terms(streams=2))
    end.hear(_head(1), _head(3))
    assert end.hear(_head(5)) == [(Kind.RST_STREAM, 0, 5, Code.REFUSED_STREAM.to_bytes(4))]
    end.told[1].send_whole(pack([(b":status", b"200")]), b"")
    end.hear(_head(7))
    assert 7 in end.told


def test_a_drain_announces_itself_first_and_then_names_the_last_stream() -> None:
    end = greeted()
    end.hear(_head(1))
    end.connection.wind_down()
    assert frames_in(end.out())[0][3][:4] == ((1 << 31) - 1).to_bytes(4)
    end.hear(_head(3))
    end.connection.refuse_more()
    assert frames_in(end.out())[0][3][:8] == (3).to_bytes(4) + bytes(4)
    assert not end.hear(_head(5))
    assert sorted(end.told) == [1, 3]


def test_a_table_is_given_up_once_the_client_speaks_of_its_size() -> None:
    end = greeted()
    end.hear(frames.settings({Parameter.HEADER_TABLE_SIZE: 0}), _head(1), _head(3))
    for number in (1, 3):
        end.told[number].send_head(pack([(b":status", b"200")]), end=True)
    assert [data for *_, data in frames_in(end.out())] == [b"\x20\x88", b"\x88"]


@pytest.mark.parametrize(
    "flood",
    [
        frames.frame(Kind.PING, 0, 0, bytes(8)),
        frames.settings({}),
        frames.window_update(0, 1),
        frames.data(1, b"", 0),
        frames.frame(Kind.PRIORITY, 0, 3, b"\0\0\0\0\x10"),
        frames.frame(0x42, 0, 0, b""),
    ],
)
def test_a_flood_ends_the_connection_and_a_trickle_does_not(flood: bytes) -> None:
    now = [0.0]
    end = greeted(now=lambda: now[0])
    end.hear(_head(1, end=False))
    for _ in range(2000):
        now[0] += 0.1
        end.hear(flood)
    assert _fault(end) is None
    end.hear(flood * 600)
    assert _fault(end) is Code.ENHANCE_YOUR_CALM
    assert end.told[1].reset_with is Code.ENHANCE_YOUR_CALM


def test_rapid_resets_end_the_connection_and_those_of_a_busy_client_do_not() -> None:
    busy = greeted()
    for number in range(1, 8000, 4):
        busy.hear(_head(number), _head(number + 2), frames.reset(number + 2, Code.CANCEL))
        busy.told[number].send_whole(pack([(b":status", b"200")]), b"")
    assert _fault(busy) is None
    rapid = greeted()
    for number in range(1, 1100, 2):
        rapid.hear(_head(number), frames.reset(number, Code.CANCEL))
    assert _fault(rapid) is Code.ENHANCE_YOUR_CALM


def test_who_makes_us_reset_streams_is_no_better() -> None:
    end = greeted()
    for number in range(1, 1100, 2):
        end.hear(_head(number, end=False), frames.window_update(number, 0))
    assert _fault(end) is Code.ENHANCE_YOUR_CALM


def test_a_head_without_end_ends_the_connection() -> None:
    for part in (b"", b"x", b"x" * 16384):
        end = greeted()
        end.hear(frames.frame(Kind.HEADERS, 0, 1, b""), frames.frame(Kind.CONTINUATION, 0, 1, part) * 17)
        assert _fault(end) is Code.ENHANCE_YOUR_CALM


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10),
            st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D]),
            st.sampled_from([0, 1, 2, 3, 5, 7]),
            st.binary(max_size=20) | st.sampled_from([_BLOCK, bytes(4), bytes(8), b"\0\0\1\0"]),
        ),
        max_size=12,
    )
)
def test_whatever_comes_ends_in_frames_and_never_in_another_error(sent: list[tuple[int, int, int, bytes]]) -> None:
    end = greeted()
    for kind, flags, number, payload in sent:
        end.hear(frames.frame(kind, flags, number, payload))
    open_streams = set(end.connection.streams)
    assert open_streams <= set(end.told)
    assert all(end.told[number].reset_with is None for number in open_streams)
