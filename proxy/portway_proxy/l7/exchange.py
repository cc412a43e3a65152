"""One request and its response: how far it came, as a table of (state, event) -> state."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.carrier import Carrier
    from portway_proxy.l7.passage import Passage
    from portway_proxy.l7.pool import Pool
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.l7.trail import Trail
    from portway_proxy.l7.tunnel import Tunnel
    from portway_proxy.live import LiveUpstream
    from portway_proxy.snapshot import Route

__all__ = [
    "ATTEMPT_FAILED",
    "DONE",
    "EARLY",
    "HEAD_SENT",
    "PENDING",
    "REQUEST_END",
    "REQUEST_SENT",
    "RESPONDING",
    "RESPONSE_HEAD",
    "SENDING",
    "TUNNEL",
    "UPGRADED",
    "WAITING",
    "Event",
    "Exchange",
    "State",
]


class State(IntEnum):
    """How far an exchange came."""

    PENDING = 0  # No connection to an endpoint yet; no byte of the request left.
    SENDING = 1  # The head left, the body is leaving.
    WAITING = 2  # The whole request left.
    EARLY = 3  # The response began before the request was complete.
    RESPONDING = 4  # The request is complete, the response is arriving.
    TUNNEL = 5  # After a 101: bytes both ways, which `tunnel` carries.
    DONE = 6  # Where an exchange may end up from every other state.


class Event(IntEnum):
    """What can happen to an exchange."""

    HEAD_SENT = 0
    REQUEST_END = 1
    RESPONSE_HEAD = 2
    UPGRADED = 3
    ATTEMPT_FAILED = 4
    REQUEST_SENT = 5  # Its head, and with it all of it.


# The members as names of this module: reading them from their class costs 50 ns on Python 3.11, ten times a request.
PENDING, SENDING, WAITING, EARLY, RESPONDING, TUNNEL, DONE = State
HEAD_SENT, REQUEST_END, RESPONSE_HEAD, UPGRADED, ATTEMPT_FAILED, REQUEST_SENT = Event

_NEXT = {
    (PENDING, HEAD_SENT): SENDING,
    (PENDING, REQUEST_SENT): WAITING,
    (PENDING, ATTEMPT_FAILED): PENDING,
    (SENDING, REQUEST_END): WAITING,
    (SENDING, RESPONSE_HEAD): EARLY,
    (SENDING, ATTEMPT_FAILED): PENDING,
    (WAITING, RESPONSE_HEAD): RESPONDING,
    (WAITING, UPGRADED): TUNNEL,
    (WAITING, ATTEMPT_FAILED): PENDING,
    (EARLY, REQUEST_END): RESPONDING,
}


class Exchange:
    """The state of one request and response. It keeps the upstream that it began with, whatever is swapped meanwhile.

    `peer` is the client's address and `secure` whether it came by TLS, as far as anybody trusted says. `started` and,
    once it is over, `ended` are in seconds of the loop's clock; the sizes count body bytes. `tried` holds the pools of
    the endpoints that failed. `reason` is why the proxy answered itself, or empty. `trail` is for those that were not
    sent at once on a connection that was there, and answered in one piece. `passage` is for those whose route's policy
    asks for something.
    """

    __slots__ = (
        "client",
        "connection",
        "ended",
        "head",
        "passage",
        "peer",
        "pool",
        "reason",
        "received",
        "request_size",
        "response",
        "response_size",
        "route",
        "secure",
        "started",
        "state",
        "status",
        "trail",
        "tried",
        "tunnel",
        "upstream",
    )

    def __init__(self, client: Asker, head: RequestHead, started: float) -> None:
        # Said outright, for mypy: the modules that read these come before this one in their circle of imports.
        self.client: Asker = client
        self.peer = client.peer
        self.secure = client.secure
        self.head: RequestHead = head
        self.started: float = started
        self.ended: float
        self.state = PENDING
        self.route: Route | None = None
        self.trail: Trail | None = None
        self.upstream: LiveUpstream | None = None
        self.passage: Passage | None = None
        self.pool: Pool | None = None
        self.connection: Carrier | None = None
        self.tried: tuple[Pool, ...] = ()
        self.response: ResponseHead | None = None
        self.tunnel: Tunnel | None = None
        self.status: int = 0
        self.request_size: int = 0
        self.response_size: int = 0
        self.reason: str = ""

    def on(self, event: Event) -> State:
        """Go to the next state and return it; raises KeyError for an event that the state does not know."""
        self.state = state = _NEXT[self.state, event]
        return state
