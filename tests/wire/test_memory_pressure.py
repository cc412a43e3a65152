"""A worker that comes close to its limit of memory: what it gives up at each step, and that nobody is killed."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from eventually import eventually
from portway_proxy.overload import Overload
from portway_proxy.pressure import Pressure
from wire.limited import confined, limited
from wire.parts import Client, Web, connect, pids, port_of
from wire.peers import Endpoint, Peer, Truncated, answering, reply
from wire.site import Net, everything_to

DOWNLOAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20971520\r\n\r\n" + bytes(1 << 20)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()


async def test_each_step_of_memory_gives_up_a_little_more(web: Web) -> None:
    async with limited(web) as proxy, connect(port_of(proxy)) as kept:
        assert await kept.get() == "sent by web"
        (pid,) = pids(proxy)
        size = resident(pid)
    # Limits of which the worker uses 93, 96 and nearly 100 hundredths as soon as it runs.
    for share, expected in ((0.935, "let go"), (0.965, "refused"), (0.995, "waits")):
        async with limited(web, memory=int(size / share)) as proxy:
            assert await outcome_of(port_of(proxy), expected) == expected


async def outcome_of(port: int, expected: str) -> str:
    """Return what becomes of a client, once that is what is expected or time is up."""
    found = ""
    loop = asyncio.get_running_loop()
    end = loop.time() + 10
    while found != expected and loop.time() < end:
        await asyncio.sleep(0.1)
        client = await Client.to(port)
        client.send()
        try:
            async with asyncio.timeout(1):
                status, head, _ = await client.take()
            closes = "connection: close" in head.lower()
            found = "refused" if status == 503 and closes else "let go" if status == 200 and closes else "served"
        except TimeoutError:
            found = "waits"
        await client.close()
    return found


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a control group that may have 200 MB."""
    version_1, version_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    top, limit = (version_1, "limit_in_bytes") if version_1.is_dir() else (version_2, "max")
    made = top / f"portway-{os.getpid()}"
    try:
        made.mkdir()
        (made / f"memory.{limit}").write_text(str(200 << 20))
    except OSError as error:
        pytest.skip(f"this machine lets us make no control group with a limit of memory: {error}")
    yield made
    made.rmdir()


def killed(group: Path) -> int:
    """Return how many processes of the group the kernel has killed for want of memory."""
    name = "memory.oom_control" if (group / "memory.oom_control").exists() else "memory.events"
    return int(dict(line.split() for line in (group / name).read_text("ascii").splitlines())["oom_kill"])


async def endless(peer: Peer) -> None:
    """Answer each request with far more than anybody takes; uploads are not read."""
    while True:
        head = await peer.head()
        if head.start.startswith(b"POST"):
            peer.hold()
            return
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20971520\r\n\r\n")
        for _ in range(320):
            if peer.how or peer.lost:
                raise Truncated(peer.how)
            peer.send(bytes(65536))
            await peer.flush()


HOG = """
import sys, time
from pathlib import Path
group, share = Path(sys.argv[1]), float(sys.argv[2])
(group / "cgroup.procs").write_text("0")
names = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")
limit, usage = next(pair for pair in names if (group / pair[0]).exists())
most, held = share * int((group / limit).read_text()), []
while True:
    if int((group / usage).read_text()) < most:
        held.append(b"x" * (1 << 18))
    else:
        time.sleep(0.01)
"""


@asynccontextmanager
async def filled(group: Path, share: float) -> AsyncIterator[None]:
    """Have somebody else in the group use what is missing to this share of its limit."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HOG, str(group), str(share))
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_group_of_200_mb_is_never_killed_refuses_in_time_and_recovers(group: Path, tmp_path: Path) -> None:
    # hostile-world 2, row 6: slow readers and uploads.
    endpoint = Endpoint(endless)
    await endpoint.start()
    loop = asyncio.get_running_loop()
    clients: list[Peer] = []
    async with confined(endpoint.port, tmp_path, 20000, str(group)) as (port, _, pid):
        for number in range(200):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            _, client = await loop.create_connection(Peer, sock=sock)
            clients.append(client)
            client.hold()
            client.send(UPLOAD if number % 2 else DOWNLOAD)
            await asyncio.sleep(0.01)
        async with filled(group, 0.965):
            refusal = await until_served_with(port, b"HTTP/1.1 503")
            assert b"\r\nRetry-After: 1\r\n" in refusal
            assert b"\r\nConnection: close\r\n" in refusal
            # What runs goes on.
            reader = clients[0]
            reader.counting = True
            reader.go_on()
            await eventually(lambda: reader.size > 4 << 20, what="it gets more than any buffer holds")
        assert killed(group) == 0
        os.kill(pid, 0)
        await until_served_with(port, b"HTTP/1.1 200 OK")
        for client in clients:
            client.transport.abort()
    await endpoint.close()


async def until_served_with(port: int, beginning: bytes) -> bytes:
    """Wait until a new client's answer begins like this; return as much of it as comes at once."""
    async with asyncio.timeout(30):
        while True:
            with suppress(ConnectionError, TimeoutError):
                async with connect(port) as client, asyncio.timeout(1):
                    client.send()
                    if (answer := await client.reader.read(1000)).startswith(beginning):
                        return answer
            await asyncio.sleep(0.1)


async def test_at_the_last_step_those_are_cut_off_for_whom_far_more_waits_than_may(net: Net) -> None:
    endpoint = await net.endpoint(answering(reply(b"x" * 5_000_000)))
    site = await net.site(everything_to(endpoint.port))
    greedy = await net.client(site, window=4096)
    greedy.hold()
    greedy.send(DOWNLOAD)
    await eventually(lambda: any(one.write_paused for one in site.clients), what="it does not keep up")
    modest = await net.client(site)
    modest.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1")
    await eventually(lambda: len(endpoint.peers) == 2, what="the other one has come")
    pressure = Pressure(1, None)  # Whoever runs has more.
    overload = Overload(site.http, pressure, lambda _: None)
    overload.start()
    await eventually(lambda: len(site.clients) == 1, what="it is cut off")
    greedy.go_on()
    assert await greedy.end() == "reset"
    modest.send(b"2")
    assert (await modest.response()).status == 200
    overload.stop()
