"""The channel between the supervisor and one worker: typed messages over a Unix socket pair, with descriptors.

The pair is SOCK_SEQPACKET, so that a message is one packet and its descriptors come with it (SCM_RIGHTS). What may be
large (a snapshot, metrics) travels as a memfd. Neither side ever waits for the other; a side whose peer stops reading
queues up to `QUEUE` messages and then gives the peer up.
"""

from __future__ import annotations

import array
import logging
import os
import socket
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from portway_proxy.dashboard.figures import Depth
from portway_proxy.endpoint_states import EndpointQuery
from portway_proxy.flows import FlowQuery
from portway_proxy.settings import ProxySettings

__all__ = [
    "ANSWERS",
    "COMMANDS",
    "MAX_FDS",
    "Answer",
    "Applied",
    "Apply",
    "Channel",
    "Command",
    "Configure",
    "Drain",
    "Drained",
    "Endpoints",
    "Figures",
    "Flows",
    "ListEndpoints",
    "ListFlows",
    "Look",
    "Metrics",
    "Patch",
    "Question",
    "Ready",
    "Rejected",
    "Reopen",
    "Report",
    "Sockets",
    "pair",
    "store",
    "take_first",
    "take_stored",
]

_log = logging.getLogger(__name__)

QUEUE: Final = 1024
"""Messages that wait for a peer that does not read; one that is so far behind will never catch up."""

MAX_FDS: Final = 128
"""Descriptors that one message carries; the kernel takes 253 (SCM_MAX_FD)."""

_MAX_BYTES: Final = 65536  # Certificates are the largest thing in a message, and those are a few KiB.
_FD_BYTES: Final = array.array("i").itemsize
_BATCH: Final = 16  # Messages read before the loop may look at its clients again.


# --- supervisor -> worker ------------------------------------------------------------------------------------


class Configure(msgspec.Struct, frozen=True, tag=True):
    """The first message: the settings, and what all workers share.

    That is the default certificate (PEM; empty without an HTTPS port), the key that signs affinity cookies when a
    snapshot brings none, and the one for tickets of TLS sessions. `slot` is the worker's own number.
    """

    settings: ProxySettings
    chain: bytes = b""
    key: bytes = b""
    affinity_key: bytes = b""
    slot: int = 0
    ticket_key: bytes = b""

    def __repr__(self) -> str:
        """Return the settings; never a key."""
        return f"Configure(settings={self.settings!r})"


class Sockets(msgspec.Struct, frozen=True, tag=True):
    """Listening sockets, one descriptor for each key (`http`, `https`, `tcp/5432`)."""

    keys: tuple[str, ...]


class Apply(msgspec.Struct, frozen=True, tag=True):
    """A snapshot to serve; its memfd holds `codec.encode`'s bytes."""

    generation: int


class Patch(msgspec.Struct, frozen=True, tag=True):
    """A change to the snapshot that is served; its memfd holds a `Delta` as msgpack."""

    generation: int


class Report(msgspec.Struct, frozen=True, tag=True):
    """A wish for the worker's samples; `number` comes back with them."""

    number: int


class ListFlows(msgspec.Struct, frozen=True, tag=True):
    """A wish to know what passes through at layer 4; `number` comes back with the answer."""

    number: int
    query: FlowQuery


class ListEndpoints(msgspec.Struct, frozen=True, tag=True):
    """A wish to know how endpoints fare; `number` comes back with the answer."""

    number: int
    query: EndpointQuery


class Look(msgspec.Struct, frozen=True, tag=True):
    """A wish to know what moved since the last one; `number` comes back with the answer.

    From the first on, until the last, the worker keeps what it counted, to tell the difference.
    """

    number: int
    depth: Depth


class Rekey(msgspec.Struct, frozen=True, tag=True):
    """Another key for tickets of TLS sessions."""

    ticket_key: bytes

    def __repr__(self) -> str:
        """Return no byte of it."""
        return "Rekey(...)"


class Reopen(msgspec.Struct, frozen=True, tag=True):
    """The order to open the file of the access log again, because it was moved away."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """The order to stop accepting, to finish what runs within `timeout` seconds, and to exit."""

    timeout: float


# --- worker -> supervisor ------------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker runs and waits for a snapshot."""


class Applied(msgspec.Struct, frozen=True, tag=True):
    """The worker serves this generation."""

    generation: int


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The worker cannot serve this generation and goes on with the one before."""

    generation: int
    error: str


class Metrics(msgspec.Struct, frozen=True, tag=True):
    """The samples that a `Report` asked for; the memfd holds a list of `metrics.Sample` as msgpack.

    Without being asked a worker sends its last ones, as number 0, before it exits.
    """

    number: int


class Flows(msgspec.Struct, frozen=True, tag=True):
    """The flows that a `ListFlows` asked for; the memfd holds a `flows.FlowPage` as msgpack."""

    number: int


class Endpoints(msgspec.Struct, frozen=True, tag=True):
    """The endpoints that a `ListEndpoints` asked for; the memfd holds an `endpoint_states.EndpointPage` as msgpack."""

    number: int


class Figures(msgspec.Struct, frozen=True, tag=True):
    """What a `Look` asked for; the memfd holds a `dashboard.figures.Gathered` as msgpack."""

    number: int


class Drained(msgspec.Struct, frozen=True, tag=True):
    """The worker has finished everything and exits."""


Question: TypeAlias = Report | ListFlows | ListEndpoints | Look
Command: TypeAlias = Configure | Sockets | Apply | Patch | Question | Rekey | Reopen | Drain
Answer: TypeAlias = Ready | Applied | Rejected | Metrics | Flows | Endpoints | Figures | Drained

COMMANDS: Final[msgspec.msgpack.Decoder[Command]] = msgspec.msgpack.Decoder(Command)
ANSWERS: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)

_encoder = msgspec.msgpack.Encoder()

In = TypeVar("In")


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new channel; neither is inherited unless it is passed on by number."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def store(data: bytes) -> int:
    """Return the descriptor of a memfd that holds `data`; the caller closes it once it is sent."""
    fd = os.memfd_create("portway")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


def take_stored(fd: int) -> bytes:
    """Return what the memfd holds and close it; the file position, which all receivers share, is not used."""
    try:
        size = os.fstat(fd).st_size
        parts = bytearray()
        while len(parts) < size:
            parts += os.pread(fd, size - len(parts), len(parts))
        return bytes(parts)
    finally:
        os.close(fd)


def take_first(sock: socket.socket) -> Configure:
    """Wait for the first message of a blocking socket and return it.

    Raises `EOFError` when the supervisor has gone.
    """
    data = sock.recv(_MAX_BYTES)
    if not data:
        raise EOFError("the supervisor has gone")
    return msgspec.msgpack.decode(data, type=Configure)


class Channel(Generic[In]):
    """One end: sends messages at once or when the peer reads again, and hands on those that come in.

    `on_message` gets each message and its descriptors, which it owns. `on_end` is called once when the peer has gone
    or broke the protocol, not after `close`.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[In],
        on_message: Callable[[In, list[int]], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._decoder = decoder
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """Whether nothing comes or goes any more."""
        return self._sock.fileno() < 0

    def send(self, message: Command | Answer, fds: Sequence[int] = ()) -> None:
        """Send `message` with at most `MAX_FDS` descriptors, which stay the caller's.

        What is sent to a peer that has gone is lost: `on_end` tells.
        """
        if self.closed:
            return
        data = _encoder.encode(message)
        if not self._waiting and self._sent(data, fds):
            return
        if len(self._waiting) >= QUEUE:
            _log.error("the other end of the channel reads nothing; giving it up")
            self._end()
            return
        if not self._waiting:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        # The caller may close its descriptors long before these leave.
        self._waiting.append((data, [os.dup(fd) for fd in fds]))

    def take_rest(self) -> None:
        """Hand on what the peer, which has gone, had sent before."""
        while not self.closed and self._read_one():
            pass

    def close(self) -> None:
        """End the channel; what still waits to be sent is dropped."""
        if self.closed:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, fds in self._waiting:
            _close_all(fds)
        self._waiting.clear()

    def _end(self) -> None:
        if not self.closed:
            self.close()
            self._on_end()

    def _sent(self, data: bytes, fds: Iterable[int]) -> bool:
        """Return whether there is nothing left to send of this message: it left, or the peer has gone."""
        rights = array.array("i", fds)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        try:
            self._sock.sendmsg([data], ancillary)
        except BlockingIOError:
            return False
        except OSError as error:
            if not isinstance(error, ConnectionError):
                _log.error("the channel failed: %s", error)
            self._end()
        return True

    def _writable(self) -> None:
        while self._waiting:
            data, fds = self._waiting[0]
            if not self._sent(data, fds):
                return
            if self.closed:
                return
            self._waiting.popleft()
            _close_all(fds)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        for _ in range(_BATCH):
            if self.closed or not self._read_one():
                return

    def _read_one(self) -> bool:
        """Read one message and hand it on; return whether another may be there."""
        try:
            data, fds, flags = _receive(self._sock)
        except BlockingIOError:
            return False
        except OSError:
            data, fds, flags = b"", [], 0
        if not data:
            self._end()
            return False
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            # The kernel drops descriptors for which this process has no room (RLIMIT_NOFILE).
            _log.error("a message on the channel lost its descriptors or its end; giving the other end up")
            _close_all(fds)
            self._end()
            return False
        try:
            message = self._decoder.decode(data)
        except msgspec.DecodeError as error:
            _log.error("a message on the channel cannot be read: %s", error)
            _close_all(fds)
            self._end()
            return False
        self._on_message(message, fds)
        return True


def _receive(sock: socket.socket) -> tuple[bytes, list[int], int]:
    """Return the next packet, its descriptors and flags; `socket.recv_fds` of Python 3.11 forgets close-on-exec."""
    room = socket.CMSG_SPACE(MAX_FDS * _FD_BYTES)
    data, ancillary, flags, _ = sock.recvmsg(_MAX_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % _FD_BYTES])
    return data, fds.tolist(), flags


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
