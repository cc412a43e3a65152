"""Who a client connection comes from: who connected, or whom a trusted peer speaks for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from portway_proxy.l7.identity import DOUBT, Doubt, Speaker, identity_of, way_of
from portway_proxy.l7.rewrite import Repeats
from portway_proxy.proxy_protocol import HEADERS, Address
from portway_proxy.shown import Shown
from portway_proxy.tls import shows_own

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.recall import Block
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.proxy_protocol import ProxyHeader
    from portway_proxy.snapshot import ProxyVersion

__all__ = ["HANDSHAKE", "Guest"]

HANDSHAKE: Final = b"\x16"
"""What a client that speaks TLS begins with, and no request does."""


class Guest(asyncio.Protocol):
    """The protocol of a client connection, as far as it is about who the client is.

    `peer` is the client's address, `secure` whether it came by TLS, `forwarded` what endpoints are told of it: the
    connection's own, or for each request anew what a trusted peer says. `told` is what it said before all requests.
    `note` takes each exchange that has ended. A `strict` client was shown a certificate for the very name that it asked
    for; `authority` is the one by which it was asked for a certificate of its own.
    """

    __slots__ = (
        "_block",
        "_shown",
        "_speaker",
        "_told",
        "_transport",
        "authority",
        "forwarded",
        "http",
        "note",
        "origin",
        "peer",
        "repeats",
        "secure",
        "strict",
        "tls",
    )

    _transport: asyncio.Transport

    def __init__(self, http: Http, *, tls: bool, told: ProxyHeader | None) -> None:
        self.http = http
        self.tls = tls
        self.secure = tls
        self.strict = False
        self.authority = ""
        self._shown: Shown | None = None
        self.note = http.journal.note
        self.origin: bytes | None = None
        self.peer = b"-"
        self.forwarded = b""
        self.repeats = Repeats()
        self._told = told
        self._block: Block | None = None
        self._speaker: Speaker | Doubt | None = None

    def identify(self) -> bool:
        """Take the connection for who it is, as it is believed now; return False when it was reset before we looked."""
        peer = self._transport.get_extra_info("peername")
        if peer is None:
            return False
        http = self.http
        self.strict = self.tls and shows_own(self._transport)
        settings = http.settings
        public = settings.public_https_port if self.tls else settings.public_http_port
        port = public or self._transport.get_extra_info("sockname")[1]
        way = way_of(peer[0], port, self._told, tls=self.tls)
        self.peer, self.secure, self.forwarded = identity_of(way)
        self._speaker = http.trusted.speaker(way)
        return True

    @property
    def shown(self) -> Shown:
        """The certificate that the client showed, as far as it was asked for one."""
        if self._shown is None:
            self._shown = Shown(self._transport.get_extra_info("ssl_object"))
        return self._shown

    def announcement(self, version: ProxyVersion) -> bytes:
        """Return the PROXY header that tells an endpoint who the client is, and where it came to."""
        if self._told is not None and self._told.source is not None and self._told.destination is not None:
            source, destination = self._told.source, self._told.destination
        else:
            source, destination = (
                Address(*self._transport.get_extra_info(end)[:2]) for end in ("peername", "sockname")
            )
        peer = self.peer.decode()
        # A field of the request may have named another client, and no port.
        return HEADERS[version](source if source.host == peer else Address(peer, 0), destination)

    def doubt(self) -> None:
        """Identify the client anew with its next request: whom to believe has changed."""
        self._speaker = DOUBT

    def leave(self) -> None:
        """Make room for another client; harmless when that was done, or nobody counted this one."""
        origin, self.origin = self.origin, None
        if origin is not None:
            self.http.gate.leave(origin)

    def succeed(self, guest: Guest) -> None:
        """Take the place of another protocol of the same connection, which is no guest any more."""
        self._transport = guest._transport
        self._told = guest._told
        self.authority = guest.authority
        self.origin, guest.origin = guest.origin, None
        self.identify()

    def _head_of(self, data: bytes) -> RequestHead:
        """Return the request head that `data` is; who speaks for itself is likely to repeat its `_block` of fields."""
        if self._speaker is not None:
            return self._hear(data)
        requests = self.http.requests
        head = requests.parse(data)
        self._block = requests.block
        return head

    def _hear(self, data: bytes) -> RequestHead:
        """Take the head of a peer that speaks for its clients, or that may no longer do so."""
        if self._speaker is DOUBT:
            self.identify()
        speaker = self._speaker
        if not isinstance(speaker, Speaker):
            return self.http.requests.parse(data)
        self._speak_for_itself()
        head, (self.peer, self.secure, self.forwarded) = speaker.hear(data)
        return head

    def _speak_for_itself(self) -> None:
        """Let a peer that has not said for whom it asks ask for itself."""
        if isinstance(self._speaker, Speaker):
            self.peer, self.secure, self.forwarded = self._speaker.own
