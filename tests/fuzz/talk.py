"""A conversation in memory between a client, the proxy and its endpoints, and what may come of it.

A script is a series of steps with `MARK` between them: the first byte says what happens, the rest are the bytes sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import h11

from fuzz.memory import Loop, Proxy, Wire
from fuzz.reading import Beyond, Read, read_requests, read_responses
from portway_proxy.errors import BadTarget
from portway_proxy.l7.target import canonical_path, split_absolute

__all__ = ["MARK", "STEPS", "Talk", "talk"]

MARK = b"\xff"
"""What no HTTP is made of."""

_STEPS = 40  # More make an input slow and tell nothing new.
_NEVER = frozenset((b"trailer", b"keep-alive", b"proxy-connection", b"proxy", b"forwarded", b"http2-settings"))
# What would change how a message is framed, routed, trusted or kept, if it came behind its body.
_NEVER_BEHIND = _NEVER | frozenset(
    b"authorization connection content-encoding content-length content-type cookie expect host range set-cookie te "
    b"transfer-encoding upgrade x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip x-request-id".split()
)
_OWN = re.compile(rb"[45][0-9]{2} [\w -]+\n|default backend - 404")
_loops: list[Loop] = []


def _loop() -> Loop:
    # One for all conversations of a process: to make one costs more than most of them.
    if not _loops:
        _loops.append(Loop())
    return _loops[0]


class Talk:
    """A conversation that goes on step by step; `check` holds after each of them."""

    def __init__(self) -> None:
        self.proxy = Proxy(_loop())
        self.said = bytearray()  # By the client.
        self.silent = False  # The client has ended.
        self.answered: dict[Wire, bytearray] = {}
        self.ended: set[Wire] = set()

    def step(self, what: bytes, data: bytes = b"") -> None:
        """Have one thing happen, and all that follows from it."""
        happen = STEPS.get(what)
        if happen is not None:
            self.proxy.happen(lambda: happen(self, data))

    def check(self) -> None:
        """Check what everybody got so far."""
        asked = read_requests(bytes(self.said), forgiving=True).messages
        wanted = [_meant(one) for one in asked if one.complete]
        for wire in self.proxy.wires:
            self._check_endpoint(wire, wanted)
        self._check_client([_method(one) for one in asked])

    def close(self) -> None:
        """End it; nothing may be left."""
        self.proxy.close()

    def _check_endpoint(self, wire: Wire, wanted: list[tuple[bytes, bytes, bytes]]) -> None:
        """Check that an endpoint reads clean requests, and none that h11 does not find in what the client sent."""
        sent = bytes(wire.sent)
        if b"HTTP/1.1 101 " in self.answered.get(wire, b"") and b"\r\nUpgrade: websocket\r\n" in sent:
            return  # What follows is no HTTP of ours.
        reading = read_requests(sent)
        assert not reading.fault, (reading.fault, sent)
        for one in reading.messages:
            names = Counter(name for name, _ in one.head.headers)
            assert names[b"host"] == names[b"x-forwarded-for"] == names[b"x-request-id"] == 1, sent
            assert names[b"content-length"] + names[b"transfer-encoding"] <= 1, sent
            assert not _NEVER.intersection(names), sent
            assert not any(b"_" in name for name in (*names, *one.trailers)), sent
            assert not _NEVER_BEHIND.intersection(one.trailers), sent
            assert {value for name, value in one.head.headers if name == b"te"} <= {b"trailers"}, sent
        rest = iter(wanted)
        for one in reading.messages:
            if one.complete:
                assert any(_meant(one) == other for other in rest), (sent, wanted)

    def _check_client(self, methods: list[str]) -> None:
        """Check that the client reads whole responses that some endpoint gave, or ours, or sees that one is cut off."""
        client = self.proxy.client
        sent = bytes(client.sent)
        if b"HTTP/1.1 101 " in sent:
            return
        ended = client.how in ("eof", "close")
        # What is no request has an answer too.
        reading = read_responses(sent, [*methods, "GET"], ended=ended)
        if ended and _OWN.fullmatch(reading.rest):
            # Whether it was a HEAD nobody knows of what is no request: its answer has a body.
            assert reading.messages, sent
        else:
            assert not reading.rest, (reading, sent)
            assert not reading.fault, (reading, sent)
        if ended:
            assert all(one.complete for one in reading.messages), (reading, sent)
        assert all(_own(one) for one in reading.messages[len(methods) :]), (reading, sent)
        allowed = self._allowed()
        for one in reading.messages:
            assert not _NEVER_BEHIND.intersection(one.trailers), sent
            assert _own(one) or not one.complete or _given(one) in allowed, (_given(one), allowed)

    def _allowed(self) -> set[tuple[int, bytes]]:
        """Return status and body of every response that some endpoint gave whole, as h11 reads it."""
        found: set[tuple[int, bytes]] = set()
        for wire, data in self.answered.items():
            methods = [_method(one) for one in read_requests(bytes(wire.sent)).messages]
            reading = read_responses(bytes(data), methods, ended=wire in self.ended)
            found |= {_given(one) for one in reading.messages if one.complete}
        return found


def talk(script: bytes) -> None:
    """Hold the conversation that `script` describes, and check it after every step."""
    some = Talk()
    try:
        for step in script.split(MARK)[:_STEPS]:
            some.step(step[:1], step[1:])
            some.check()
    except Beyond:
        pass
    finally:
        some.close()


def _method(one: Read) -> str:
    assert isinstance(one.head, h11.Request)
    return one.head.method.decode()


def _own(one: Read) -> bool:
    """Return whether a response is one of those that the proxy makes itself."""
    return dict(one.head.headers).get(b"server") == b"portway" and (not one.body or bool(_OWN.fullmatch(one.body)))


def _given(one: Read) -> tuple[int, bytes]:
    assert isinstance(one.head, h11.Response)
    return one.head.status_code, one.body


def _meant(one: Read) -> tuple[bytes, bytes, bytes]:
    """Return method, target in its one form, and body."""
    assert isinstance(one.head, h11.Request)
    target = one.head.target
    try:
        if target != b"*":
            target = target if target.startswith(b"/") else split_absolute(target)[1]
            path, mark, query = target.partition(b"?")
            target = canonical_path(path) + mark + query
    except BadTarget:
        pass  # It is refused, so that it equals nothing that arrives.
    return one.head.method, target, one.body


# --- steps


def _client_says(talk: Talk, data: bytes) -> None:
    if not talk.silent and not talk.proxy.client.is_closing():
        talk.said += data
        talk.proxy.client.deliver(data)


def _client_ends(talk: Talk, _: bytes) -> None:
    if not talk.silent and not talk.proxy.client.is_closing():
        talk.silent = True
        talk.proxy.client.end()


def _client_resets(talk: Talk, _: bytes) -> None:
    talk.silent = True
    if not talk.proxy.client.lost:
        talk.proxy.client.reset()


def _endpoint_says(talk: Talk, data: bytes) -> None:
    wire = talk.proxy.newest
    if wire is not None and not wire.is_closing() and wire not in talk.ended:
        talk.answered.setdefault(wire, bytearray()).extend(data)
        wire.deliver(data)


def _endpoint_ends(talk: Talk, _: bytes) -> None:
    wire = talk.proxy.newest
    if wire is not None and not wire.is_closing() and wire not in talk.ended:
        talk.ended.add(wire)
        wire.end()


def _endpoint_resets(talk: Talk, _: bytes) -> None:
    wire = talk.proxy.newest
    if wire is not None and not wire.lost:
        wire.reset()


def _endpoint_stalls(talk: Talk, _: bytes) -> None:
    if talk.proxy.newest is not None:
        talk.proxy.newest.stall()


def _endpoint_takes(talk: Talk, _: bytes) -> None:
    if talk.proxy.newest is not None:
        talk.proxy.newest.take()


def _refuse(talk: Talk, _: bytes) -> None:
    talk.proxy.loop.refusing = not talk.proxy.loop.refusing


def _drain(talk: Talk, _: bytes) -> None:
    talk.proxy.parts.draining = True


def _swap(talk: Talk, _: bytes) -> None:
    talk.proxy.swap()


STEPS: dict[bytes, Callable[[Talk, bytes], None]] = {
    b"C": _client_says,
    b"c": _client_ends,
    b"r": _client_resets,
    b"s": lambda talk, _: talk.proxy.client.stall(),
    b"g": lambda talk, _: talk.proxy.client.take(),
    b"E": _endpoint_says,
    b"e": _endpoint_ends,
    b"x": _endpoint_resets,
    b"S": _endpoint_stalls,
    b"G": _endpoint_takes,
    b"R": _refuse,
    b"D": _drain,
    b"W": _swap,
}
"""What can happen: capitals say something, refuse connections or not, drain, and swap the endpoints."""
