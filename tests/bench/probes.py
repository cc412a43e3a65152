"""Connections to each worker of a proxy, by which it is asked again and again until it serves a change."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import Fault
from portway_proxy.tasks import Tasks

__all__ = ["Awaited", "Probe", "Probes", "probing"]

_PAUSE = 0.001  # Between two requests of a connection while nothing changed.
_ATTEMPTS = 400  # The kernel deals connections out to workers by chance.


@dataclass
class Awaited:
    """What every worker is to answer; `seen` is when each did so first, by the clock of the loop."""

    host: str
    path: str
    wanted: bytes
    workers: int
    seen: list[float] = field(default_factory=list)
    served: asyncio.Event = field(default_factory=asyncio.Event)

    def mark(self, now: float) -> None:
        """Take note that one more worker answers as wanted."""
        self.seen.append(now)
        if len(self.seen) == self.workers:
            self.served.set()


class Probe:
    """A connection to one worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._pending: deque[Awaited] = deque()
        self._work = asyncio.Event()

    def expect(self, awaited: Awaited) -> None:
        """Ask until the worker answers as wanted."""
        self._pending.append(awaited)
        self._work.set()

    async def ask(self, host: str, path: str) -> bytes:
        """Return the body of an answer; empty when its status is not 200."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        size = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        body = await self._reader.readexactly(int(size or 0))
        return body if b" 200 " in head.partition(b"\r\n")[0] else b""

    async def run(self) -> None:
        """Ask for whatever is expected, in turn, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._work.clear()
            for _ in range(len(self._pending)):
                awaited = self._pending.popleft()
                if await self.ask(awaited.host, awaited.path) == awaited.wanted:
                    awaited.mark(loop.time())
                else:
                    self._pending.append(awaited)
            await (asyncio.sleep(_PAUSE) if self._pending else self._work.wait())

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class Probes:
    """A probe for each worker."""

    def __init__(self, each: Sequence[Probe]) -> None:
        self.each = each

    def expect(self, host: str, path: str, wanted: bytes) -> Awaited:
        """Ask every worker until it answers as wanted."""
        awaited = Awaited(host, path, wanted, len(self.each))
        for probe in self.each:
            probe.expect(awaited)
        return awaited


@asynccontextmanager
async def probing(port: int, workers: Sequence[int]) -> AsyncIterator[Probes]:
    """Give probes for the workers with these process ids, which all serve already; raises `Fault`."""
    tasks = Tasks()
    found: dict[int, Probe] = {}
    try:
        for _ in range(_ATTEMPTS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            probe = Probe(reader, writer)
            await probe.ask("nobody.example", "/")
            pid = await asyncio.to_thread(_holder, writer.get_extra_info("socket"), port, workers)
            if found.setdefault(pid, probe) is not probe:
                probe.close()
            if found.keys() == set(workers):
                break
        else:
            raise Fault(f"of the workers {workers} only {sorted(found)} take connections")
        for pid, probe in found.items():
            tasks.spawn(probe.run(), f"probe of worker {pid}")
        yield Probes(list(found.values()))
    finally:
        await tasks.close()
        for probe in found.values():
            probe.close()


def _holder(sock: socket.socket, port: int, workers: Sequence[int]) -> int:
    """Return which worker has the other end of a connection, as the kernel tells."""
    ends = f":{port:04X} ", f":{sock.getsockname()[1]:04X} "
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f"{fields[1]} ".endswith(ends[0]) and f"{fields[2]} ".endswith(ends[1]):
            link = f"socket:[{fields[9]}]"
            for pid in workers:
                if link in _links(pid):
                    return pid
    raise Fault("a connection that no worker has")


def _links(pid: int) -> set[str]:
    links = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(str(descriptor.readlink()))
        except OSError:
            continue
    return links
