"""What all exchanges of a worker share: the parsers, the limits, the source of request ids, the current Date."""

from __future__ import annotations

import itertools
import secrets
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from portway_proxy.errors import LoopLate
from portway_proxy.gate import Gate
from portway_proxy.l7 import flow
from portway_proxy.l7.identity import Trusted
from portway_proxy.l7.overdue import Overdue
from portway_proxy.l7.packer import Packer
from portway_proxy.l7.replies import SIGNATURE
from portway_proxy.l7.response import ResponseParser
from portway_proxy.l7.shedding import begin_in_time, refuse
from portway_proxy.l7.telling import Telling
from portway_proxy.l7.translation import HeadReader, RequestPacker
from portway_proxy.passwords import Hashing
from portway_proxy.tls_terms import TlsTerms

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from portway_proxy.clock import Clock
    from portway_proxy.errors import Overloaded
    from portway_proxy.journal import Journal
    from portway_proxy.l4.splicer import Splicer
    from portway_proxy.l7.asker import Asker, OpenClient
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.live import Live
    from portway_proxy.metrics import Counters
    from portway_proxy.settings import ProxySettings
    from portway_proxy.tasks import Tasks

__all__ = ["Http", "Worker"]

_MANY = 1 << 20  # Connections; a worker says how many its descriptors allow.


class Worker(Protocol):
    """What layer 7 needs of its worker. `live` is replaced whole, so it is read once for each exchange."""

    loop: asyncio.AbstractEventLoop
    settings: ProxySettings
    clock: Clock
    splicer: Splicer
    tasks: Tasks
    live: Live
    journal: Journal
    counters: Counters
    clients: set[OpenClient]
    draining: bool


class Http:
    """The shared parts, made once by a worker.

    A request begins with `begin`, which is `usual` while all is well. Where the loop is late again and again, one that
    is read after `late_from` (by `time.monotonic`) comes too late in its turn to be served. `refused` are to be told so
    in a moment. `request_id` returns a new request id, or nothing where none are made. `signature` is our Server field,
    or nothing. `telling` is for clients that are told what became of their requests, None where there are none. While
    `letting_go`, no client connection is kept. `exhausted` is called when descriptors have run out.
    """

    __slots__ = (
        "_date",
        "_second",
        "_shedding",
        "begin",
        "clock",
        "counters",
        "exhausted",
        "gate",
        "hashing",
        "heads",
        "https_port",
        "journal",
        "late_from",
        "letting_go",
        "limits",
        "loop",
        "overdue",
        "packer",
        "plain_paths",
        "refused",
        "request_id",
        "request_packer",
        "requests",
        "responses",
        "settings",
        "signature",
        "strict",
        "strict_heads",
        "strict_responses",
        "tasks",
        "telling",
        "timeouts",
        "tls",
        "trusted",
        "usual",
        "worker",
    )

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.loop = worker.loop
        self.clock = worker.clock
        self.tasks = worker.tasks
        self.journal = worker.journal
        self.counters = worker.counters
        self.begin: Callable[[Asker, RequestHead], None] = flow.begin
        self.usual = self.begin
        self.telling: Telling | None = None
        self._shedding: type[Overloaded] | None = None
        self.late_from = 0.0
        self.letting_go = False
        self.refused: list[Exchange] = []
        self.exhausted: Callable[[], None] | None = None
        self.gate = Gate(_MANY)
        self.overdue = Overdue(self)
        self.packer = Packer()
        self.trusted = Trusted(None, worker.settings.limits)
        self.tls = TlsTerms()
        self.signature = SIGNATURE
        self.tune(worker.settings)
        self.https_port = worker.settings.public_https_port or worker.settings.https_port or 443
        self.request_packer = RequestPacker()
        self.hashing = Hashing(worker.loop)
        self.request_id = _request_ids()
        self._second = 0.0
        self._date = b""

    def believe(self, trusted: Trusted, *, request_ids: bool) -> None:
        """Take clients for who they are by `trusted` from the next request on, and make request ids or not."""
        if request_ids is not bool(self.request_id()):
            self.request_id = _request_ids() if request_ids else itertools.repeat(b"").__next__
        if trusted.trust != self.trusted.trust:
            self.trusted = trusted
            self.requests = trusted.plain
            for client in self.worker.clients:
                client.doubt()

    @property
    def shedding(self) -> type[Overloaded] | None:
        """With what new requests are refused now, for `LoopLate` after `late_from`; None while they are served."""
        return self._shedding

    @shedding.setter
    def shedding(self, why: type[Overloaded] | None) -> None:
        self._shedding = why
        # Another beginning, not a question that every request is asked.
        if why is None:
            self.begin = self.usual
        else:
            self.begin = begin_in_time if why is LoopLate else refuse

    def tell(self, networks: tuple[str, ...]) -> None:
        """Tell clients in `networks` what became of their requests, from the next one on; raises ValueError."""
        if networks == (() if self.telling is None else self.telling.networks):
            return
        self.telling = Telling(networks) if networks else None
        self.usual = flow.begin if self.telling is None else self.telling.begin
        self.shedding = self._shedding

    def speak(self, terms: TlsTerms) -> None:
        """Send clients to TLS, and tell them to stay with it, by `terms` from the next request on."""
        self.tls = terms
        self.plain_paths = tuple(path.rstrip("/").encode() + b"/" for path in terms.plain_paths)
        self.strict = strict = b"Strict-Transport-Security: %b\r\n" % terms.hsts.encode() if terms.hsts else b""
        signed = bool(self.signature)
        self.strict_responses = ResponseParser(self.limits, strict, signed=signed) if strict else self.responses
        self.strict_heads = HeadReader(self.limits.fields, strict, signed=signed) if strict else self.heads

    def sign(self, *, signed: bool) -> None:
        """Say who answers, where an endpoint does not say it, or leave that out, from the next request on."""
        if signed is not bool(self.signature):
            self.signature = SIGNATURE if signed else b""
            self._read()

    def _read(self) -> None:
        """Make the readers of responses anew: what they remember is what the old settings made of it."""
        signed = bool(self.signature)
        self.responses = ResponseParser(self.limits, signed=signed)
        self.heads = HeadReader(self.limits.fields, signed=signed)
        self.speak(self.tls)

    def tune(self, settings: ProxySettings) -> None:
        """Go by other limits and timeouts from now on; what waits keeps the deadline that it has."""
        self.settings = settings
        self.limits = settings.limits
        self.timeouts = settings.timeouts
        self.trusted = Trusted(self.trusted.trust, self.limits)
        self.requests = self.trusted.plain
        self._read()
        self.gate.each = self.limits.connections_per_address
        self.overdue.follow()

    def squeeze(self, buffer: int) -> None:
        """Let at most so many bytes wait for each slow reader from now on, and for those who are here if it is less."""
        less = buffer < self.limits.buffer
        self.limits = msgspec.structs.replace(self.settings.limits, buffer=buffer)
        if less:  # All of them at once would take more faster than anybody looks.
            for client in self.worker.clients:
                client.squeeze()

    def date(self) -> bytes:
        """Return the value of a Date field, a second coarse."""
        wall = self.clock.wall
        if wall != self._second:
            self._second = wall
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(wall)).encode()
        return self._date


def _request_ids() -> Callable[[], bytes]:
    """Return what makes request ids: 32 hexadecimal digits, as ingress-nginx has them.

    Half of them are this worker's own, the others count: half the price of so many random ones. All of it in C.
    """
    form = secrets.token_hex(8).encode() + b"%016x"
    return map(form.__mod__, itertools.count(secrets.randbits(63))).__next__
