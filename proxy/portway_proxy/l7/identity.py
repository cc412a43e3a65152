"""Who sends a request: the peer itself, or whom a trusted peer says that it speaks for.

Only a peer in the trusted networks is listened to, and of what it says only the fields that the settings name: a proxy
that sets X-Forwarded-For may pass on a Forwarded that its client made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import ClassVar, Final, NamedTuple

from portway_proxy.errors import BadHost, BadSnapshot
from portway_proxy.l7.fields import RequestRole, request_role
from portway_proxy.l7.forwarded import Hop, agreed, elements, find_client, for_field, nodes
from portway_proxy.l7.head import TakeTable
from portway_proxy.l7.request import RequestHead, RequestParser
from portway_proxy.l7.rewrite import forwarded_fields
from portway_proxy.l7.target import parse_host
from portway_proxy.networks import Networks, parse_address
from portway_proxy.proxy_protocol import ProxyHeader
from portway_proxy.settings import Limits
from portway_proxy.trust import Belief, Trust

__all__ = ["DOUBT", "Doubt", "Identity", "Speaker", "Trusted", "Way", "identity_of", "way_of"]

_FOR: Final = b"x-forwarded-for"
_HOST: Final = b"x-forwarded-host"
_FORWARDED: Final = b"forwarded"
_OF_REQUEST: Final = (_HOST, b"x-forwarded-proto", b"x-forwarded-scheme", b"x-forwarded-port", b"x-forwarded-prefix")
_SCHEMES: Final = {b"http": False, b"https": True, b"ws": False, b"wss": True}
_USUAL_PORTS: Final = {False: 80, True: 443}
_PORT = re.compile(rb"[1-9][0-9]{0,4}")
_PREFIX = re.compile(rb"/(?![/\\])[!-~]{0,1023}")  # `//evil.example` in a link would lead there.


class Way(NamedTuple):
    """How a client came here: from which address, to which port (the one that it sees as ours), whether by TLS."""

    address: str
    port: int
    secure: bool

    @property
    def scheme(self) -> bytes:
        """`http` or `https`."""
        return b"https" if self.secure else b"http"


class Doubt(Enum):
    """The state of a peer of whom it is no longer known whether it may speak for others."""

    DOUBT = "doubt"


DOUBT: Final = Doubt.DOUBT


class Identity(NamedTuple):
    """The client of a request: its address as text, whether it came by TLS, and the fields that tell an endpoint."""

    address: bytes
    secure: bool
    fields: bytes


def way_of(peer: str, port: int, told: ProxyHeader | None, *, tls: bool) -> Way:
    """Return how a client came that connected to us from `peer`, or to the proxy before us as that has `told`."""
    if told is None or told.source is None or told.destination is None:
        return Way(_plain(peer), port, tls)
    # ingress-nginx's rule: who was led to port 443 came by TLS, which ended at the proxy before us.
    secure = tls or told.tls or told.destination.port == _USUAL_PORTS[True]
    return Way(_plain(told.source.host), told.destination.port, secure)


def _plain(address: str) -> str:
    """Return an address without what a socket for both families, or the name of an interface, makes of it."""
    return str(parse_address(address) or address) if ":" in address else address


def identity_of(way: Way) -> Identity:
    """Return the identity of a peer that speaks for itself."""
    return Identity(way.address.encode(), way.secure, forwarded_fields(way.address, way.port, way.scheme))


class Trusted:
    """A `Trust` in service, and the parsers of heads that it asks for.

    `plain` parses those of peers that are not listened to: beside what is always dropped it drops the field that would
    name the client. Raises `BadSnapshot` for networks that are none.
    """

    __slots__ = ("_listens", "_spoken", "networks", "plain", "trust")

    def __init__(self, trust: Trust | None, limits: Limits) -> None:
        self.trust = trust = trust or Trust()
        try:
            self.networks = Networks(trust.networks)
        except ValueError as error:
            raise BadSnapshot(f"a trusted network is none: {error}") from None
        self._listens = bool(self.networks) and trust.belief is not Belief.NOTHING
        field = trust.field.lower().encode()
        request = _OF_REQUEST if trust.belief is Belief.REQUEST else ()
        self._spoken = SpokenParser(limits, _role_with(RequestRole.SAID, (_FOR, field, *request)))
        self.plain = RequestParser(limits, _role_with(RequestRole.DROP, (field,)))

    def announces(self, host: str) -> bool:
        """Return whether connections of the peer `host` begin with a header of the PROXY protocol."""
        return self.trust.proxy_protocol and (address := parse_address(host)) is not None and address in self.networks

    def believes(self, host: str) -> bool:
        """Return whether the peer `host` speaks for its clients."""
        if not self._listens:
            return False
        address = parse_address(host)
        return address is not None and address in self.networks

    def speaker(self, way: Way) -> Speaker | None:
        """Return the peer as one that speaks for its clients, or None: it speaks for itself."""
        return Speaker(self, self._spoken, way) if self.believes(way.address) else None


class SpokenParser(RequestParser):
    """Parses heads of peers that speak for others; `said` is what the last one said, by lower-case names."""

    __slots__ = ("said",)

    _REMEMBERS: ClassVar[bool] = False  # What a block said would have to be remembered with it.

    def parse(self, data: bytes) -> RequestHead:
        """Return the request head that `data` is."""
        self.said: dict[bytes, bytes] = {}
        return super().parse(data)

    def _say(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        before = self.said.get(name)
        self.said[name] = value if before is None else before + b", " + value

    _TAKE: ClassVar[TakeTable] = {**RequestParser._TAKE, RequestRole.SAID: _say}  # noqa: SLF001 - it extends that table


class Speaker:
    """A trusted peer, which says in each head whom it speaks for; `own` is its own identity."""

    __slots__ = ("_field", "_parser", "_trusted", "_way", "own")

    def __init__(self, trusted: Trusted, parser: SpokenParser, way: Way) -> None:
        self.own = identity_of(way)
        self._trusted = trusted
        self._parser = parser
        self._way = way
        self._field = trusted.trust.field.lower().encode()

    def hear(self, data: bytes) -> tuple[RequestHead, Identity]:
        """Return the request head that `data` is, and whom it is from.

        Raises a `ClientError` as every parser does.
        """
        head = self._parser.parse(data)
        said = self._parser.said
        client = find_client(self._hops(said), self._trusted.networks)
        way = self._way if client.address is None else self._way._replace(address=str(client.address))
        if self._trusted.trust.belief is Belief.REQUEST:
            way, head.forwarded_host = self._request(way, client, said)
        return head, Identity(way.address.encode(), way.secure, self._fields(way, said))

    def _hops(self, said: Mapping[bytes, bytes]) -> Iterable[Hop]:
        value = said.get(self._field)
        if value is None:
            return ()
        return elements(value) if self._field == _FORWARDED else nodes(value)

    def _request(self, way: Way, client: Hop, said: Mapping[bytes, bytes]) -> tuple[Way, bytes]:
        """Return how the client came to the first proxy that is trusted, and the Host that it used, or nothing."""
        if self._field == _FORWARDED:
            scheme, host = client.scheme, client.host
        else:
            scheme = agreed(said.get(b"x-forwarded-proto") or said.get(b"x-forwarded-scheme") or b"").lower()
            host = agreed(said.get(_HOST, b""))
        secure = _SCHEMES.get(scheme, way.secure)
        port = agreed(said.get(b"x-forwarded-port", b""))
        if _PORT.fullmatch(port) and int(port) < 65536:
            number = int(port)
        else:
            number = way.port if secure is way.secure else _USUAL_PORTS[secure]
        return Way(way.address, number, secure), _sound(host)

    def _fields(self, way: Way, said: Mapping[bytes, bytes]) -> bytes:
        whole = said.get(_FOR)
        chain = b""
        if self._trusted.trust.append:
            # The peer is the last to be told: who reads the chain has networks of its own to trust.
            chain = self.own.address if whole is None else b"%b, %b" % (whole, self.own.address)
        lines = [forwarded_fields(way.address, way.port, way.scheme, chain)]
        if whole is not None:
            lines.append(b"X-Original-Forwarded-For: %b\r\n" % whole)
        if _HOST in said:
            lines.append(b"X-Original-Forwarded-Host: %b\r\n" % said[_HOST])
        prefix = agreed(said.get(b"x-forwarded-prefix", b""))
        if _PREFIX.fullmatch(prefix):
            lines.append(b"X-Forwarded-Prefix: %b\r\n" % prefix)
        if self._field == _FORWARDED:
            lines.append(self._forwarded(way, said))
        elif request_role(self._field) is RequestRole.PASS and self._field in said:
            lines.append(b"%b: %b\r\n" % (self._trusted.trust.field.encode(), said[self._field]))
        return b"".join(lines)

    def _forwarded(self, way: Way, said: Mapping[bytes, bytes]) -> bytes:
        if self._trusted.trust.append:
            before = said.get(_FORWARDED)
            known = b"for=%b;proto=%b" % (for_field(self._way.address), self._way.scheme)
            return b"Forwarded: %b\r\n" % (known if before is None else b"%b, %b" % (before, known))
        return b"Forwarded: for=%b;proto=%b\r\n" % (for_field(way.address), way.scheme)


def _role_with(role: RequestRole, names: Collection[bytes]) -> Callable[[bytes], RequestRole]:
    """Return what tells the role of a field, with `role` for those called as one of `names` (lower-case)."""
    known = frozenset(names)

    def role_of(name: bytes) -> RequestRole:
        return role if name.lower() in known else request_role(name)

    return role_of


def _sound(host: bytes) -> bytes:
    """Return `host`, or nothing when it is none."""
    try:
        parse_host(host)
    except BadHost:
        return b""
    return host
