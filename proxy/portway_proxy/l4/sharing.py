"""What comes to the HTTP and HTTPS ports and is not for them: TLS that passes through by its name, other protocols."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

from portway_proxy.errors import ClientGone, ProxyError, RequestTimeout
from portway_proxy.flows import Flow
from portway_proxy.l4.connect import prepare
from portway_proxy.l4.first_bytes import FirstBytes
from portway_proxy.l4.passage import Passage, Served, Terms
from portway_proxy.l4.passages import Passages, PassagesWorker
from portway_proxy.l4.peek import SSL_REQUEST, Opening, opening, postgres_request, server_name
from portway_proxy.l4.postgres import UNWILLING, WILLING
from portway_proxy.metrics import Sample
from portway_proxy.proxy_protocol import ProxyHeader
from portway_proxy.routing import NameTable
from portway_proxy.snapshot import Snapshot, TlsTerms

__all__ = ["Arrival", "Shared", "SharedWorker"]


class _Wish(NamedTuple):
    """What a client of the HTTPS port begins with: TLS for a `name`, a request of PostgreSQL, or neither."""

    name: str = ""
    asked: bytes = b""
    tls: bool = False


_Look: TypeAlias = FirstBytes[_Wish] | FirstBytes[Opening]


class Arrival(NamedTuple):
    """A client that was accepted and counted.

    `peer` is its address, `origin` what the gate takes when it leaves, `told` what its PROXY header said. `name` is the
    one that it asks for over TLS, lower-case, where that was looked for.
    """

    sock: socket.socket
    peer: str
    origin: bytes
    told: ProxyHeader | None
    name: str = ""


class SharedServed(Served, Protocol):
    """What is served now, as far as shared ports go."""

    @property
    def snapshot(self) -> Snapshot:
        """All of it."""

    @property
    def names(self) -> NameTable:
        """The names whose TLS passes through."""


class SharedWorker(PassagesWorker, Protocol):
    """What a shared port needs of its worker."""

    @property
    def live(self) -> SharedServed:
        """What is served now."""


class Shared:
    """A port that is shared, called `name` in logs and metrics; `admit` is for who came to what it is there for."""

    __slots__ = ("_admit", "_looks", "_passages", "_worker")

    def __init__(
        self, worker: SharedWorker, name: str, admit: Callable[[Arrival], None], exhausted: Callable[[], None]
    ) -> None:
        self._worker = worker
        self._admit = admit
        self._looks: dict[socket.socket, tuple[Arrival, _Look]] = {}
        settings = worker.settings
        self._passages = Passages(worker, name, Terms.of(None, settings, settings.timeouts.tunnel), exhausted)

    @property
    def relays(self) -> int:
        """How many connections pass through, or may do so."""
        return len(self._passages.relays) + len(self._looks)

    def look(self, arrival: Arrival, *, tls: bool) -> None:
        """Find out what a client came for, if anything shares the port with what it is there for, and send it there."""
        live = self._worker.live
        arrival.sock.settimeout(0)
        if tls and (live.names or live.snapshot.authorities or _tells_hosts_apart(live.snapshot.tls)):
            self._look_for_name(arrival)
        elif not tls and live.snapshot.fallback is not None:
            self._look_for_http(arrival, live.snapshot.fallback.wait)
        else:
            self._admit(arrival)

    def close(self) -> None:
        """End everything at once."""
        looks = tuple(self._looks.values())
        self._looks.clear()
        for arrival, look in looks:
            look.cancel()
            self._drop(arrival)
        self._passages.close()

    def flows(self, now: float) -> Iterator[Flow]:
        """Return what a table of flows says of each connection at `now`, a time of the loop."""
        return self._passages.flows(now)

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count."""
        return self._passages.samples()

    # --- the HTTPS port

    def _look_for_name(self, arrival: Arrival, asked: bytes = b"") -> None:
        """Look for the name in a ClientHello, before which the client `asked` whether TLS may begin, or did not."""
        patience = self._worker.settings.timeouts.head
        done = partial(self._named, arrival, asked)
        self._begin(arrival, FirstBytes(self._worker.loop, arrival.sock, patience, _wish_in, done))

    def _named(self, arrival: Arrival, asked: bytes, outcome: _Wish | ProxyError) -> None:
        del self._looks[arrival.sock]
        if isinstance(outcome, ProxyError):
            self._drop(arrival)
        elif outcome.asked:
            self._promise(arrival, outcome.asked)
        elif outcome.tls and (upstream := self._worker.live.names.match(outcome.name)) is not None:
            passage = self._pass(arrival, upstream)
            if asked:
                passage.connect_for_tls()
            else:
                passage.connect()
        elif asked:
            self._drop(arrival)  # Nobody else here speaks PostgreSQL.
        else:
            self._admit(arrival._replace(name=outcome.name))

    def _promise(self, arrival: Arrival, asked: bytes) -> None:
        """Answer a client of PostgreSQL that asks whether TLS may begin: only then it says whom it wants."""
        sock = arrival.sock
        try:
            sock.recv(len(asked))
            sock.send(WILLING if asked == SSL_REQUEST else UNWILLING)
        except OSError:
            self._drop(arrival)
        else:
            self._look_for_name(arrival, asked if asked == SSL_REQUEST else b"")

    # --- the HTTP port

    def _look_for_http(self, arrival: Arrival, patience: float) -> None:
        done = partial(self._opened, arrival)
        self._begin(arrival, FirstBytes(self._worker.loop, arrival.sock, patience, opening, done))

    def _opened(self, arrival: Arrival, outcome: Opening | ProxyError) -> None:
        _, look = self._looks.pop(arrival.sock)
        fallback = self._worker.live.snapshot.fallback
        # It may be the slow beginning of a request.
        slow = isinstance(outcome, RequestTimeout) and look.seen > 0
        if isinstance(outcome, ClientGone) and not look.seen:
            self._drop(arrival)  # As health checks do.
        elif fallback is None or slow or outcome in (Opening.HTTP, Opening.TLS):
            self._admit(arrival)
        else:
            self._pass(arrival, fallback.upstream).connect()

    # --- both

    def _begin(self, arrival: Arrival, look: _Look) -> None:
        self._looks[arrival.sock] = arrival, look
        look.start()

    def _pass(self, arrival: Arrival, upstream: str) -> Passage:
        prepare(arrival.sock, self._passages.terms.timeouts[1])
        return self._passages.enter(arrival.sock, arrival.peer, upstream, arrival.origin, arrival.told)

    def _drop(self, arrival: Arrival) -> None:
        arrival.sock.close()
        self._worker.gate.leave(arrival.origin)


def _wish_in(data: bytes) -> _Wish | None:
    asked = postgres_request(data)
    if asked is None:
        return None
    if asked:
        return _Wish(asked=asked)
    try:
        name = server_name(data)
    except ValueError:
        return _Wish()
    return None if name is None else _Wish(name, tls=True)


def _tells_hosts_apart(terms: TlsTerms | None) -> bool:
    """Return whether TLS is spoken to some hosts with ciphers of their own, which is settled before the handshake."""
    return terms is not None and bool(terms.host_ciphers)
