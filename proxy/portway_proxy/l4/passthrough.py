"""A layer 4 listener: every connection that it accepts becomes a relay to one endpoint of its upstream."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple, Protocol

from portway_proxy.accepting import Acceptor
from portway_proxy.errors import ProxyError
from portway_proxy.flows import Flow
from portway_proxy.l4.connect import prepare
from portway_proxy.l4.deaf import deafen, hear
from portway_proxy.l4.passage import Passage, Terms
from portway_proxy.l4.passages import Passages, PassagesWorker
from portway_proxy.listeners import BACKLOG, key_of
from portway_proxy.metrics import Sample
from portway_proxy.networks import Networks, parse_address
from portway_proxy.snapshot import Listener

__all__ = ["FULL", "Introductions", "ListenerWorker", "Passthrough"]

FULL: Final = "too_many_clients"
"""The listener has as many connections as its policy allows."""


class Introductions(NamedTuple):
    """Whose connections begin with a PROXY header, on listeners that accept one, and how many seconds it may take."""

    networks: Networks = Networks(())
    patience: float = 5.0


class ListenerWorker(PassagesWorker, Protocol):
    """What a listener needs of its worker."""

    @property
    def introductions(self) -> Introductions:
        """Whose PROXY headers are believed now."""


class Passthrough:
    """Accepts on a listening socket, which belongs to it, and keeps the relays that came of it.

    It may be given another listener of the same port: what is accepted later goes to its upstream, relays run on.
    """

    __slots__ = ("_acceptor", "_passages", "_sock", "_worker", "listener")

    def __init__(self, worker: ListenerWorker, listener: Listener, sock: socket.socket) -> None:
        self._worker = worker
        self._sock = sock
        name = key_of(listener)
        self._acceptor = Acceptor(worker.loop, sock, name, self._enter)
        self._passages = Passages(worker, name, self._terms(listener), self._acceptor.pause)
        self.listener = listener

    @property
    def relays(self) -> Collection[Passage]:
        """The connections that pass through now."""
        return self._passages.relays

    def take(self, listener: Listener) -> None:
        """Serve as `listener` says from now on."""
        self.listener = listener
        self._passages.terms = self._terms(listener)

    def start(self) -> None:
        """Begin to accept."""
        prepare(self._sock, self._passages.terms.timeouts[1])
        # Where `retire` had ended it, and a snapshot that was rejected brings it back.
        hear(self._sock)
        self._sock.listen(BACKLOG)
        self._acceptor.start()

    def stop(self) -> None:
        """Accept no more and close the listening socket; relays run on. Harmless when it has stopped."""
        self._acceptor.stop()

    def finish_accepting(self) -> None:
        """Stop, once who has connected already is accepted; others may have the socket too, and go on."""
        self._acceptor.last_call()

    def deafen(self) -> None:
        """Let nobody begin to connect any more."""
        deafen(self._sock)

    def retire(self) -> None:
        """Stop, because the port is given up: who has connected is accepted, and nobody else can connect.

        The supervisor has the socket too, and closes it a moment later: those who came meanwhile would be reset.
        """
        if self._sock.fileno() < 0:
            return
        sock = self._sock.dup()
        deafen(sock)
        self._acceptor.last_call()
        with sock:
            sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Stop, and end all relays at once."""
        self.stop()
        self._passages.close()

    def hold(self) -> None:
        """Accept nothing until `release`."""
        self._acceptor.hold()

    def release(self) -> None:
        """Accept again."""
        self._acceptor.release()

    def flows(self, now: float) -> Iterator[Flow]:
        """Return what a table of flows says of each connection at `now`, a time of the loop."""
        return self._passages.flows(now)

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count; bytes of connections that run still are in them."""
        return self._passages.samples()

    def _terms(self, listener: Listener) -> Terms:
        settings = self._worker.settings
        return Terms.of(listener.policy, settings, settings.timeouts.tunnel)

    def _enter(self, client: socket.socket, peer: str) -> None:
        passages, gate = self._passages, self._worker.gate
        terms = passages.terms
        if terms.clients and len(passages.relays) >= terms.clients:
            passages.turn_away(client, peer, self.listener.upstream, FULL)
            return
        try:
            origin = gate.enter(peer)
        except ProxyError as error:
            passages.turn_away(client, peer, self.listener.upstream, error.reason)
            return
        client.settimeout(0)
        passage = passages.enter(client, peer, self.listener.upstream, origin)
        if terms.accept_proxy and self._introduced(peer):
            passage.greet(self._worker.introductions.patience)
        else:
            passage.connect()

    def _introduced(self, peer: str) -> bool:
        address = parse_address(peer)
        return address is not None and address in self._worker.introductions.networks
