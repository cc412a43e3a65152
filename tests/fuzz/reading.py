"""What another strict parser reads: h11, against which everything that we accept is held."""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11

__all__ = ["Beyond", "Read", "Reading", "read_request_head", "read_requests", "read_response_head", "read_responses"]

_MOST = 1 << 20  # Bytes of a head: our own limits are to decide.
# Where h11 is the stricter one: it looks for framing in trailers, none of which we pass on, and it knows no white space
# before a chunk's extensions, which RFC 9112, 7.1.1 wants to be read over (and we pass no extensions on either).
_STRICTER = re.compile(r"Transfer-Encoding|Content-Length|Host|illegal chunk header: .*(?: |\\t);")


class Beyond(Exception):
    """What h11 reads tells nothing about us: it refused what is right to accept."""


@dataclass(frozen=True)
class Read:
    """A message and its body, if `complete` the whole of it, with the names of its trailers."""

    head: h11.Request | h11.Response
    body: bytes
    complete: bool
    trailers: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Reading:
    """The messages on a connection; `fault` says why nothing more could be read, `rest` what was left unread."""

    messages: tuple[Read, ...]
    fault: str = ""
    rest: bytes = b""

    @property
    def complete(self) -> list[Read]:
        return [one for one in self.messages if one.complete]


def read_request_head(data: bytes) -> h11.Request:
    """Return the request that h11 reads; raises `h11.RemoteProtocolError`."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    return event


def read_response_head(data: bytes, method: str = "GET") -> h11.Response | h11.InformationalResponse:
    """Return the response that h11 reads; raises `h11.RemoteProtocolError`."""
    connection = _asked(method)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse), event
    return event


def read_requests(data: bytes, *, forgiving: bool = False, most: int = 1000) -> Reading:
    """Return the first requests in `data`; one empty line before each of them is passed over when `forgiving`."""
    found: list[Read] = []
    while len(found) < most:
        if forgiving and data.startswith(b"\r\n"):
            data = data[2:]
        # A new connection for each, or h11 would stop behind one that asks for the end.
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST)
        connection.receive_data(data)
        one, fault = _message(connection, h11.Request)
        if one is not None:
            found.append(one)
        if one is None or not one.complete:
            return Reading(tuple(found), fault, data)
        data = connection.trailing_data[0]
    return Reading(tuple(found), "", data)


def read_responses(data: bytes, methods: list[str], *, ended: bool) -> Reading:
    """Return the responses in `data` to requests with these methods; `ended` says that the connection ended well."""
    found: list[Read] = []
    for method in methods:
        if not data:
            break
        connection = _asked(method)
        connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        one, fault = _message(connection, h11.Response)
        if one is not None:
            found.append(one)
        if one is None or not one.complete:
            return Reading(tuple(found), fault, data if fault else connection.trailing_data[0])
        data = connection.trailing_data[0]
    return Reading(tuple(found), "", data)


def _asked(method: str) -> h11.Connection:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    return connection


def _message(connection: h11.Connection, kind: type[h11.Request] | type[h11.Response]) -> tuple[Read | None, str]:
    head: h11.Request | h11.Response | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            if head is not None and _STRICTER.search(str(error)):
                raise Beyond from None
            return (None if head is None else Read(head, body, complete=False)), str(error)
        if isinstance(event, kind):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return Read(head, body, complete=True, trailers=frozenset(name for name, _ in event.headers)), ""
        elif not isinstance(event, h11.InformationalResponse):
            return (None if head is None else Read(head, body, complete=False)), ""
