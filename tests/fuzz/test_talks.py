"""Conversations that nobody wrote: a client and endpoints say, end, reset, stall and go on in any order.

After every step, everything that reached an endpoint is a clean request that h11 finds in what the client sent, and
everything that reached the client is a response that h11 finds in what an endpoint sent, or ours, or visibly cut off.
"""

from __future__ import annotations

import h11
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from fuzz.reading import Beyond
from fuzz.talk import STEPS, Talk
from heads import heads, spoilt_heads

requests = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%7Eb//c/./d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"GET /w HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ]
)
bodies = st.sampled_from(
    [b"hello", b"hel", b"lo", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"5;x\r\n", b"\r\n"]
)
responses = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000,
    ]
)
quiet = sorted(step for step in STEPS if step not in (b"C", b"E"))


class Conversation(RuleBasedStateMachine):
    """One client, and whatever the endpoints do."""

    def __init__(self) -> None:
        super().__init__()
        self.talk = Talk()
        self.beyond = False

    @rule(data=requests | bodies | heads | spoilt_heads(), cut=st.none() | st.floats(0, 1))
    def the_client_says(self, data: bytes, cut: float | None) -> None:
        place = len(data) if cut is None else round(cut * len(data))
        self.talk.step(b"C", data[:place])
        self.talk.step(b"C", data[place:])

    @rule(data=responses | bodies, cut=st.none() | st.floats(0, 1))
    def the_endpoint_says(self, data: bytes, cut: float | None) -> None:
        place = len(data) if cut is None else round(cut * len(data))
        self.talk.step(b"E", data[:place])
        self.talk.step(b"E", data[place:])

    @rule(request=requests, response=responses)
    def both_speak(self, request: bytes, response: bytes) -> None:
        self.talk.step(b"C", request)
        self.talk.step(b"E", response)

    @rule(what=st.sampled_from(quiet))
    def something_happens(self, what: bytes) -> None:
        self.talk.step(what)

    @invariant()
    def nobody_gets_what_nobody_meant(self) -> None:
        if not self.beyond:
            try:
                self.talk.check()
            except Beyond:
                self.beyond = True

    def teardown(self) -> None:
        self.talk.close()


def test_nobody_gets_what_nobody_meant() -> None:
    run_state_machine_as_test(Conversation, settings=settings(max_examples=150, stateful_step_count=20))


# What the check would be worth nothing without: each of these must be noticed.
@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nX-Request-ID: 1\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b""),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", b""),
        (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsaid" * 2),
        (b"", b"poison"),
    ],
)
def test_what_must_never_arrive_is_noticed(request_: bytes, response: bytes) -> None:
    talk = Talk()
    try:
        talk.step(b"C", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        if response:
            talk.step(b"E", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsaid")
        talk.check()
        endpoint = talk.proxy.newest
        assert endpoint is not None
        endpoint.sent += request_
        talk.proxy.client.sent += response
        with pytest.raises((AssertionError, h11.RemoteProtocolError)):
            talk.check()
    finally:
        talk.close()
