"""A worker: one event loop that serves what the supervisor hands it, and shares nothing with other workers.

It holds `Live`, the compiled snapshot, and swaps it by one assignment. Started as `python -m portway_proxy.worker FD`
with its end of the channel; when the supervisor has gone, it ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from portway_proxy import codec
from portway_proxy.access_log import AccessLog
from portway_proxy.answering import Answering
from portway_proxy.channel import (
    COMMANDS,
    Answer,
    Applied,
    Apply,
    Channel,
    Command,
    Configure,
    Drain,
    Drained,
    Endpoints,
    Figures,
    Flows,
    ListEndpoints,
    ListFlows,
    Look,
    Metrics,
    Patch,
    Question,
    Ready,
    Rejected,
    Rekey,
    Reopen,
    Report,
    Sockets,
    store,
    take_first,
    take_stored,
)
from portway_proxy.checks import Checks
from portway_proxy.clock import Clock
from portway_proxy.deltas import Delta, patch
from portway_proxy.descriptors import TooFewDescriptors, allowed, most_connections
from portway_proxy.errors import BadSnapshot
from portway_proxy.ingress_nginx import INGRESS_NGINX
from portway_proxy.journal import Journal
from portway_proxy.l4.passthrough import Introductions
from portway_proxy.l4.ports import Ports
from portway_proxy.l4.sharing import Shared
from portway_proxy.l4.splicer import Splicer
from portway_proxy.l7.door import Door
from portway_proxy.l7.http import Http
from portway_proxy.l7.identity import Trusted
from portway_proxy.listeners import HTTP, HTTPS
from portway_proxy.live import Live
from portway_proxy.logs import log_to_stderr
from portway_proxy.memory import give_back, keep_to_itself
from portway_proxy.metrics import Counters, pack
from portway_proxy.observing import Observing
from portway_proxy.overload import Overload
from portway_proxy.pressure import Group, Pressure
from portway_proxy.resolver import Resolver
from portway_proxy.tasks import Tasks
from portway_proxy.tls import CertificateStore
from portway_proxy.tls_terms import TlsTerms
from portway_proxy.traffic import Traffic
from portway_proxy.tuning import tuned
from portway_proxy.upstreams import Surroundings

if TYPE_CHECKING:
    from portway_proxy.l7.asker import OpenClient
    from portway_proxy.settings import ProxySettings
    from portway_proxy.snapshot import Snapshot

__all__ = ["Worker", "main"]

_deltas: Final = msgspec.msgpack.Decoder(Delta)

_log = logging.getLogger("portway_proxy.worker")  # This module runs as __main__.

_LOOK: Final = 0.05  # Seconds between two looks at what a drain still waits for.

_LAST_CALL: Final = 0.5  # Seconds from the end of accepting to the end of idle clients.

# Objects more than at the last collection. Python's 700 are three for each exchange of a batch that is not yet counted:
# every batch was searched for garbage that it never holds.
_GARBAGE: Final = 5000

_LONGEST_ERROR: Final = 4000  # A reason travels in one packet of the channel.


class Worker:
    """What every part of a worker reaches: its loop, settings, clock, counters and what it serves now (`live`).

    `clients` are the open client connections, which enter and leave by themselves.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, configure: Configure) -> None:
        self.loop = loop
        self.settings = self._given = settings = configure.settings
        self.clock = Clock(loop)
        self.splicer = Splicer(loop, self.clock)
        self.tasks = Tasks()
        self.counters = Counters()
        self.access = AccessLog(self.clock, settings.access, node=settings.node)
        traffic = Traffic(
            settings.metrics_series,
            per_host=settings.metrics_per_host,
            lengths=settings.metrics_names == INGRESS_NGINX,
        )
        self.journal = Journal(self, self.clock, self.access, traffic)
        self.clients: set[OpenClient] = set()
        self.live = Live.empty(_surroundings(self.clock, configure))
        self.draining = False
        self._http = Http(self)
        self._http.exhausted = self._exhausted
        self.gate = self._http.gate
        self.gate.most = most_connections(settings.limits.connections, allowed())
        self._overload = Overload(self._http, Pressure(settings.limits.memory, Group.find()), self._close)
        self._resolver = Resolver(self.tasks)
        self._checks = Checks(self.tasks)
        self._certificates = None
        if configure.chain:
            self._certificates = CertificateStore(configure.chain, configure.key, configure.ticket_key)
        self._sockets: dict[str, socket.socket] = {}
        self._doors: dict[str, Door] = {}
        self._ports = Ports(self)
        self._answering = Answering(self, self._ports, self._overload, configure.slot)
        self.introductions = Introductions()
        self._inbox: asyncio.Queue[tuple[Command, list[int]] | None] = asyncio.Queue()
        self._channel: Channel[Command] = Channel(
            loop, sock, COMMANDS, lambda message, fds: self._inbox.put_nowait((message, fds)), _orphaned
        )

    async def run(self) -> None:
        """Serve until a drain is over."""
        self.clock.start()
        self.journal.start()
        self._observe(None)
        self._overload.start()
        self._channel.send(Ready())
        while (taken := await self._inbox.get()) is not None:
            await self._obey(*taken)
        self.journal.close()

    def apply(self, snapshot: Snapshot, generation: int, digest: str) -> None:
        """Serve `snapshot` from now on; exchanges and relays that run keep what they began with.

        Raises `BadSnapshot`, or whatever building it meets, before anything has changed.
        """
        trusted = Trusted(snapshot.trust, self.settings.limits)
        settings = tuned(self._given, snapshot.settings)
        live = Live.build(snapshot, generation, digest, self.live)
        if self._certificates is not None:
            self._certificates.update(snapshot, live.table)
        self.live = live
        self._tune(settings)
        self._http.believe(trusted, request_ids=snapshot.request_ids)
        self._http.sign(signed=snapshot.signed)
        self._http.speak(snapshot.tls or TlsTerms())
        self.introductions = Introductions(trusted.networks, trusted.trust.patience)
        self._resolver.follow(live.upstreams.values())
        self._checks.follow(live.upstreams.values())
        self._pass_through(snapshot)
        self._observe(snapshot.observing)

    def _tune(self, settings: ProxySettings) -> None:
        """Go by these settings from now on."""
        if settings == self.settings:
            return
        self.settings = settings
        self._http.tune(settings)
        self._overload.tune(settings.limits.memory)
        self.live.around.drain = settings.timeouts.drain
        try:
            self.gate.most = most_connections(settings.limits.connections, allowed())
        except TooFewDescriptors as error:
            _log.error("the limit of connections stays %d: %s", self.gate.most, error)

    async def _obey(self, message: Command, fds: list[int]) -> None:
        match message:
            case Sockets(keys):
                self._keep(keys, fds)
            case Apply(generation) | Patch(generation):
                await self._change(message, generation, fds)
            case Report() | ListFlows() | ListEndpoints() | Look():
                with self._overload.excused():
                    self._answer(message)
            case Rekey() | Reopen():
                self._renew(message)
            case Drain(timeout):
                self.tasks.spawn(self._drain(timeout), "drain")
            case Configure():
                raise AssertionError("a worker is configured once")

    def _keep(self, keys: tuple[str, ...], fds: list[int]) -> None:
        """Hold sockets until a snapshot says what to do with them."""
        for key, fd in zip(keys, fds, strict=True):
            old = self._sockets.pop(key, None)
            if old is not None:
                old.close()
            self._sockets[key] = socket.socket(fileno=fd)

    async def _change(self, message: Apply | Patch, generation: int, fds: list[int]) -> None:
        """Apply what came and answer; the answer to anything unforeseen is a refusal, and the worker serves on."""
        try:
            with self._overload.excused():
                self._take(message, generation, take_stored(fds[0]))
            await self._ports.settle()
        except Exception as error:  # noqa: BLE001 - the loop must survive, and the supervisor logs the reason
            reason = str(error) if isinstance(error, BadSnapshot) else f"{type(error).__name__}: {error}"
            self._channel.send(Rejected(generation, reason[:_LONGEST_ERROR]))
        else:
            self._channel.send(Applied(generation))

    def _take(self, message: Apply | Patch, generation: int, data: bytes) -> None:
        if isinstance(message, Patch):
            self._patch(_deltas.decode(data), generation)
        else:
            # A third of the time that this takes would go into a digest that the supervisor just made.
            snapshot, digest = codec.decode(data, trusted=True)
            self.apply(snapshot, generation, digest)
        self._serve()

    def _patch(self, delta: Delta, generation: int) -> None:
        if delta.base != self.live.digest:
            raise BadSnapshot(f"the delta is for the snapshot {delta.base}, this worker serves {self.live.digest}")
        if delta.changes is not None:
            self.apply(patch(self.live.snapshot, delta.upstreams, delta.changes), generation, delta.digest)
            return
        self.live = self.live.patch(delta.upstreams, generation, delta.digest)
        changed = [self.live.upstreams[upstream.name] for upstream in delta.upstreams]
        self._resolver.update(changed)
        self._checks.update(changed)

    def _serve(self) -> None:
        """Accept HTTP and HTTPS, if that has not begun; before the first snapshot clients wait in the backlog."""
        for key in (HTTP, HTTPS):
            sock = self._sockets.pop(key, None)
            if sock is None:
                continue
            if key in self._doors:
                sock.close()
                continue
            certificates = self._certificates if key == HTTPS else None
            self._doors[key] = door = Door(self._http, sock, key, certificates)
            door.shared = Shared(self, key, door.admit, door.pause)
            self._ports.share(door.shared)
            door.start()

    def _renew(self, message: Rekey | Reopen) -> None:
        """Replace what grows old."""
        if isinstance(message, Reopen):
            self.access.reopen()
        elif self._certificates is not None:
            self._certificates.rekey(message.ticket_key)

    def _exhausted(self) -> None:
        """Let clients wait for a moment and end idle connections to endpoints, as descriptors have run out."""
        for door in self._doors.values():
            door.pause()
        for upstream in self.live.upstreams.values():
            for pool in upstream.pools:
                pool.empty()

    def _close(self, closed: bool) -> None:  # noqa: FBT001 - what `Overload` calls
        """Accept nobody, or everybody again."""
        doors: list[Door | Ports] = [*self._doors.values(), self._ports]
        for door in doors:
            if closed:
                door.hold()
            else:
                door.release()

    def _pass_through(self, snapshot: Snapshot) -> None:
        """Make the layer 4 listeners that accept equal the snapshot's; relays of those that go run on."""
        self._ports.follow(snapshot.listeners, self._sockets)
        for key in [key for key in self._sockets if key not in (HTTP, HTTPS)]:
            self._sockets.pop(key).close()

    def _observe(self, said: Observing | None) -> None:
        """Write and trace as the operator says, and where it says nothing as the settings do."""
        said = said or Observing()
        self.access.configure(said.access(self.settings.access))
        self.journal.trace(said.tracing or self.settings.tracing, self.settings.node)
        self._http.tell(self.settings.explain_to if said.explain_to is None else said.explain_to)

    def _answer(self, question: Question) -> None:
        answering, number = self._answering, question.number
        answer: tuple[Answer, bytes]
        match question:
            case Report():
                answer = Metrics(number), pack(answering.samples())
            case ListFlows():
                answer = Flows(number), msgspec.msgpack.encode(answering.flows(question.query))
            case ListEndpoints():
                answer = Endpoints(number), msgspec.msgpack.encode(answering.endpoints(question.query))
            case Look():
                answer = Figures(number), msgspec.msgpack.encode(answering.look(question.depth))
        message, content = answer
        fd = store(content)
        self._channel.send(message, [fd])
        os.close(fd)

    async def _drain(self, timeout: float) -> None:  # noqa: ASYNC109 - a deadline that is not an error
        """Stop accepting, let what runs finish within `timeout` seconds, and end `run`."""
        deadline = self.loop.time() + timeout
        self.draining = True
        for door in self._doors.values():
            door.last_call()
        self._ports.finish_accepting()
        # A client that sends a request now has not heard of it: the answer tells it. Who is silent for longer is idle.
        await self._quiet(min(deadline, self.loop.time() + _LAST_CALL))
        for client in tuple(self.clients):
            client.drain()
        await self._quiet(deadline)
        self._ports.close()
        for client in tuple(self.clients):
            client.abort()
        # Resets leave in the loop's next turn.
        await asyncio.sleep(0)
        self._answer(Report(0))
        self._channel.send(Drained())
        self._inbox.put_nowait(None)

    async def _quiet(self, deadline: float) -> None:
        """Wait until no client and no relay is left, or until `deadline`."""
        # A connection that ends should not have to ask whether somebody waits.
        while self.loop.time() < deadline and (self.gate.open or self._ports.busy()):  # noqa: ASYNC110 - looking costs less
            await asyncio.sleep(_LOOK)


def _surroundings(clock: Clock, configure: Configure) -> Surroundings:
    settings = configure.settings
    return Surroundings(clock, settings.workers, settings.zone, settings.timeouts.drain, configure.affinity_key)


def _orphaned() -> None:
    """End at once: without its supervisor a worker could never be told anything, nor be stopped."""
    os._exit(1)


def _unraisable(fault: sys.UnraisableHookArgs) -> None:
    # A TLS client may ask for a name that is no text; its handshake failed, and that is all there is to it.
    if not isinstance(fault.exc_value, UnicodeDecodeError):
        _log.error("%s: %r", fault.err_msg or "an exception was ignored", fault.exc_value)


def main() -> None:
    """Run a worker on the channel whose descriptor is the program's argument."""
    # A terminal or an init system may signal the whole group; a worker ends when the supervisor says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    sys.unraisablehook = _unraisable
    keep_to_itself()
    log_to_stderr()
    give_back()
    sock = socket.socket(fileno=int(sys.argv[1]))
    try:
        configure = take_first(sock)
    except EOFError:
        return
    log_to_stderr(log_format=configure.settings.log_format)
    # What was loaded so far lives as long as the process: collections need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE, 10, 10)

    async def serve() -> None:
        await Worker(asyncio.get_running_loop(), sock, configure).run()
        logging.shutdown()
        # Whatever the loop would still wait for (a slow name server, a cut client) is not worth it.
        os._exit(0)

    uvloop.run(serve())


if __name__ == "__main__":
    main()
