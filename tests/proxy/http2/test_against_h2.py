"""Our connection talks to that of the library `h2`, in both roles, and both understand the same."""

from __future__ import annotations

from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from http2_peers import GET, End, Told
from portway_proxy.http2.codes import Code
from portway_proxy.http2.packing import pack
from portway_proxy.http2.terms import Terms

_OK = pack([(b":status", b"200")])


class Pair:
    """Our end and theirs; `events` are what theirs was told."""

    def __init__(self, *, server: bool = True, terms: Terms | None = None) -> None:
        self.ours = End(terms, server=server)
        self.theirs = H2Connection(H2Configuration(client_side=server, header_encoding=None))
        self.theirs.initiate_connection()
        self.events: list[Event] = []
        self.talk()

    def talk(self) -> None:
        """Let bytes go to and fro until there are none."""
        while True:
            to_us, to_them = self.theirs.data_to_send(), self.ours.out()
            if not to_us and not to_them:
                return
            if to_us:
                self.ours.connection.receive(to_us)
            if to_them:
                for event in self.theirs.receive_data(to_them):
                    self.events.append(event)
                    if isinstance(event, DataReceived):
                        self.theirs.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def body(self, number: int) -> bytes:
        return b"".join(e.data for e in self.events if isinstance(e, DataReceived) and e.stream_id == number)

    def has(self, kind: type[Event], test: Callable[[Event], bool] = lambda _: True) -> bool:
        return any(isinstance(event, kind) and test(event) for event in self.events)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 200_000)), min_size=1, max_size=8))
def test_bodies_of_any_size_go_both_ways_on_many_streams(sizes: list[tuple[int, int]]) -> None:
    pair = Pair()
    waiting = {}
    for index, (up, _) in enumerate(sizes):
        number = 1 + 2 * index
        pair.theirs.send_headers(number, GET, end_stream=not up)
        waiting[number] = bytes([index]) * up
    pair.talk()
    while waiting:
        for number, left in list(waiting.items()):
            room = min(pair.theirs.local_flow_control_window(number), pair.theirs.max_outbound_frame_size, len(left))
            if left and room:
                pair.theirs.send_data(number, left[:room], end_stream=room == len(left))
            waiting[number] = left[room:]
            if not waiting[number]:
                del waiting[number]
        pair.talk()
    for index, (up, down) in enumerate(sizes):
        told = pair.ours.told[1 + 2 * index]
        assert (told.body == bytes([index]) * up, told.ended) == (True, True)
        told.send_whole(_OK, bytes([index]) * down)
    pair.talk()
    while pair.ours.connection.more:
        pair.ours.connection.pump()
        pair.talk()
    for index, (_, down) in enumerate(sizes):
        assert pair.body(1 + 2 * index) == bytes([index]) * down
    assert sum(isinstance(event, StreamEnded) for event in pair.events) == len(sizes)
    assert not pair.ours.connection.streams


def test_interim_heads_and_trailers_go_both_ways() -> None:
    pair = Pair()
    pair.theirs.send_headers(1, GET)
    pair.theirs.send_data(1, b"abc")
    pair.theirs.send_headers(1, [(b"x-sum", b"3")], end_stream=True)
    pair.talk()
    told = pair.ours.told[1]
    assert (told.body, told.trailers) == (b"abc", [(b"x-sum", b"3")])
    told.send_head(pack([(b":status", b"103"), (b"link", b"</x>")]), end=False)
    told.send_head(_OK, end=False)
    told.send(b"hello", end=False)
    told.send_end(pack([(b"grpc-status", b"0")]))
    pair.talk()
    assert pair.has(InformationalResponseReceived)
    assert pair.has(TrailersReceived, lambda event: event.headers == [(b"grpc-status", b"0")])  # type: ignore[attr-defined]


def test_streams_are_broken_off_both_ways() -> None:
    pair = Pair()
    pair.theirs.send_headers(1, GET)
    pair.theirs.send_headers(3, GET)
    pair.talk()
    pair.theirs.reset_stream(1, error_code=8)
    pair.ours.told[3].reset(Code.INTERNAL_ERROR)
    pair.talk()
    assert pair.ours.told[1].reset_with is Code.CANCEL
    assert pair.has(StreamReset, lambda event: event.stream_id == 3 and event.error_code == 2)  # type: ignore[attr-defined]


def test_a_client_of_ours_asks_a_server_of_theirs() -> None:
    pair = Pair(server=False)
    stream = pair.ours.connection.open(pair.ours.accept)
    assert isinstance(stream, Told)
    stream.send_head(pack(GET), end=False)
    stream.send(b"x" * 100_000, end=False)
    stream.send_end(pack([(b"x-sum", b"1")]))
    pair.talk()
    assert pair.has(RequestReceived, lambda event: event.headers == GET)  # type: ignore[attr-defined]
    assert pair.body(1) == b"x" * 100_000
    assert pair.has(TrailersReceived)
    pair.theirs.send_headers(1, [(b":status", b"103")])
    pair.theirs.send_headers(1, [(b":status", b"200")])
    pair.theirs.send_data(1, b"y" * 1000)
    pair.theirs.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
    pair.talk()
    assert [dict(head)[b":status"] for head in stream.heads] == [b"103", b"200"]
    assert (stream.body, stream.trailers) == (b"y" * 1000, [(b"grpc-status", b"0")])
    assert not pair.ours.connection.streams


def test_a_client_of_ours_opens_no_more_than_it_may_and_learns_what_was_not_served() -> None:
    pair = Pair(server=False)
    pair.theirs.update_settings({3: 2})
    pair.talk()
    connection = pair.ours.connection
    for _ in range(2):
        assert connection.can_open
        connection.open(pair.ours.accept).send_head(pack(GET), end=True)
    assert not connection.can_open
    pair.talk()
    pair.theirs.close_connection(last_stream_id=1)
    pair.talk()
    assert pair.ours.told[1].reset_with is None
    assert pair.ours.told[3].reset_with is Code.REFUSED_STREAM
    assert connection.leaving


def test_a_fault_is_told_with_its_code() -> None:
    pair = Pair()
    pair.ours.connection.receive(b"\0\0\0\x00\x00\x00\x00\x00\x00")
    pair.talk()
    assert pair.has(ConnectionTerminated, lambda event: event.error_code == 1)  # type: ignore[attr-defined]
