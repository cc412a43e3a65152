"""One worker process as the supervisor sees it: started, spoken to over its channel, and its end told."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from socket import socket
from typing import Final, Self, TypeVar

import msgspec

from portway_proxy.channel import (
    ANSWERS,
    MAX_FDS,
    Answer,
    Applied,
    Apply,
    Channel,
    Configure,
    Drain,
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
    pair,
    take_stored,
)
from portway_proxy.dashboard.figures import Depth
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery
from portway_proxy.errors import BadSnapshot
from portway_proxy.flows import FlowPage, FlowQuery

__all__ = ["WorkerEnded", "WorkerProcess"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_flows: Final = msgspec.msgpack.Decoder(FlowPage)
_endpoints: Final = msgspec.msgpack.Decoder(EndpointPage)

ACK_TIMEOUT: Final = 30.0
"""Seconds that a worker may take to apply a snapshot; 100,000 routes take about one."""


class WorkerEnded(Exception):
    """The worker died before it answered; its successor will get the same order."""


class WorkerProcess:
    """A running worker. `ended` becomes its exit status (negative: the signal that killed it).

    `generation` is what it serves, as far as it said so. `last_report` are the samples that it sent last, packed,
    asked or not; empty once somebody keeps them.
    """

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int, sock: socket, slot: int) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._process = process
        self._channel: Channel[Answer] = Channel(loop, sock, ANSWERS, self._take, self._gone)
        self._ready: asyncio.Future[None] = loop.create_future()
        self._acks: dict[int, asyncio.Future[None]] = {}
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._sent: dict[str, socket] = {}
        self.generation = 0
        self.last_report = b""
        self._number = 0
        # Readable once the process has ended: no signal handler, no thread, whatever loop this runs on.
        self._pidfd = pidfd
        loop.add_reader(pidfd, self._reap)
        self.ended: asyncio.Future[int] = loop.create_future()
        self.began = loop.time()
        self.pid = process.pid
        self.slot = slot

    def __repr__(self) -> str:
        """Return `worker 0 (pid 4711)`."""
        return f"worker {self.slot} (pid {self.pid})"

    @classmethod
    def start(cls, slot: int, configure: Configure) -> Self:
        """Start the worker of `slot`; must be called in a running loop. Raises `WorkerEnded` when it cannot."""
        with ExitStack() as undo:
            try:
                near, far = map(undo.enter_context, pair())
                process = _spawn(far.fileno())
                undo.callback(process.kill)
                pidfd = os.pidfd_open(process.pid)
            except OSError as error:
                raise WorkerEnded(f"worker {slot} cannot be started: {error.strerror}") from None
            undo.pop_all()
        far.close()
        worker = cls(process, pidfd, near, slot)
        worker._channel.send(msgspec.structs.replace(configure, slot=slot))
        return worker

    async def ready(self) -> None:
        """Wait until the worker runs. Raises `WorkerEnded`."""
        await self._answer(self._ready, ACK_TIMEOUT)

    def send_sockets(self, sockets: Mapping[str, socket]) -> None:
        """Send those of the sockets that the worker does not have yet."""
        new = [(key, sock) for key, sock in sockets.items() if self._sent.get(key) is not sock]
        for start in range(0, len(new), MAX_FDS):
            some = new[start : start + MAX_FDS]
            self._channel.send(Sockets(tuple(key for key, _ in some)), [sock.fileno() for _, sock in some])
        self._sent = dict(sockets)

    def forget(self) -> None:
        """Send every socket anew the next time, and take nothing for served."""
        self._sent.clear()
        self.generation = 0

    async def apply(self, generation: int, snapshot: int) -> None:
        """Have the worker serve the snapshot in the memfd `snapshot`.

        Raises `BadSnapshot` when it cannot, `WorkerEnded` when it dies; one that takes too long is killed.
        """
        await self._order(Apply(generation), generation, snapshot)

    async def patch(self, generation: int, delta: int) -> None:
        """Have the worker serve the upstreams in the memfd `delta`. Raises as `apply`."""
        await self._order(Patch(generation), generation, delta)

    async def report(self, seconds: float) -> bytes:
        """Return the worker's samples, packed.

        Raises `WorkerEnded`, and `TimeoutError` when it is too busy to answer within `seconds`.
        """
        return await self._ask(Report, seconds)

    async def flows(self, query: FlowQuery, seconds: float) -> FlowPage:
        """Return what passes through the worker at layer 4 and is asked for. Raises as `report`."""
        return _flows.decode(await self._ask(lambda number: ListFlows(number, query), seconds))

    async def endpoints(self, query: EndpointQuery, seconds: float) -> EndpointPage:
        """Return how the endpoints fare, for the worker, that are asked for. Raises as `report`."""
        return _endpoints.decode(await self._ask(lambda number: ListEndpoints(number, query), seconds))

    async def look(self, depth: Depth, seconds: float) -> bytes:
        """Return what moved since the last look, a packed `Gathered`. Raises as `report`."""
        return await self._ask(lambda number: Look(number, depth), seconds)

    def rekey(self, ticket_key: bytes) -> None:
        """Have the worker make tickets of TLS sessions with another key."""
        self._channel.send(Rekey(ticket_key))

    def reopen(self) -> None:
        """Tell the worker that the file of its access log was moved away."""
        self._channel.send(Reopen())

    def drain(self, timeout: float) -> None:
        """Tell the worker to finish within `timeout` seconds and exit."""
        self._channel.send(Drain(timeout))

    def kill(self) -> None:
        """End the worker at once; `ended` follows."""
        if not self.ended.done():
            self._process.kill()

    def resident(self) -> int:
        """Return the worker's resident memory in bytes; 0 when it has ended."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def _order(self, message: Apply | Patch, generation: int, fd: int) -> None:
        future = self._acks[generation] = self._loop.create_future()
        self._channel.send(message, [fd])
        try:
            await self._answer(future, ACK_TIMEOUT)
            self.generation = generation
        finally:
            del self._acks[generation]

    async def _ask(self, question: Callable[[int], Question], seconds: float) -> bytes:
        if self._channel.closed:
            raise WorkerEnded(f"{self} has ended")
        self._number = number = self._number + 1
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._asked[number] = future
        self._channel.send(question(number))
        try:
            async with asyncio.timeout(seconds):
                return await future
        finally:
            del self._asked[number]

    async def _answer(self, future: asyncio.Future[None], seconds: float) -> None:
        if self._channel.closed:
            raise WorkerEnded(f"{self} has ended")
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            _log.error("%r does not answer; replacing it", self)
            self.kill()
            raise WorkerEnded(f"{self} does not answer") from None

    def _take(self, message: Answer, fds: list[int]) -> None:
        match message:
            case Ready():
                _resolve(self._ready, None)
            case Applied(generation):
                _resolve(self._acks.get(generation), None)
            case Rejected(generation, error):
                _fail(self._acks.get(generation), BadSnapshot(error))
            case Metrics(number) | Flows(number) | Endpoints(number) | Figures(number):
                answer = take_stored(fds.pop())
                if isinstance(message, Metrics):
                    self.last_report = answer
                _resolve(self._asked.get(number), answer)
            case _:
                pass  # Drained: the end of the process follows, and says the same.
        for fd in fds:
            os.close(fd)

    def _gone(self) -> None:
        """End a worker whose channel broke: it serves nothing that we could steer."""
        self._fail_all()
        self.kill()

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self._channel.take_rest()
        self._channel.close()
        self._fail_all()
        self.ended.set_result(status)

    def _fail_all(self) -> None:
        ended = WorkerEnded(f"{self} has ended")
        for order in (self._ready, *self._acks.values()):
            _fail(order, ended)
        for question in self._asked.values():
            _fail(question, ended)
        if not self._ready.cancelled():
            self._ready.exception()  # Seen: nobody may be waiting for it, and that is no fault.


def _spawn(fd: int) -> subprocess.Popen[bytes]:
    # -P: a directory that happens to hold an `ssl.py` must not end up in the workers' path. The session of its own
    # keeps a terminal's Ctrl-C from the workers: the supervisor drains them.
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", "-m", "portway_proxy.worker", str(fd)],
        stdin=subprocess.DEVNULL,
        pass_fds=[fd],
        start_new_session=True,
    )


def _resolve(future: asyncio.Future[T] | None, result: T) -> None:
    if future is not None and not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
