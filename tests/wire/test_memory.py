"""A real worker process: bodies larger than any buffer pass, slow peers are waited for, and memory stays flat."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from eventually import eventually
from portway_proxy.l7.framing import Chunked, Framing, Length
from portway_proxy.settings import Limits
from portway_proxy.supervisor import Supervisor
from portway_proxy.tasks import Tasks
from wire.parts import settings, snapshot
from wire.peers import Client, Endpoint, Peer, Script, Truncated, answering, echoing, reply

MIB = 1 << 20
BLOCK = bytes(range(256)) * 256
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# What a worker may need beyond what it has: socket buffers are the kernel's, a relay holds 64 KiB and a read.
ALLOWED = 8 * MIB


class Stage:
    """A proxy with one worker, whose endpoint does as `endpoint.script` says."""

    def __init__(self, supervisor: Supervisor, endpoint: Endpoint) -> None:
        self.supervisor = supervisor
        self.endpoint = endpoint
        self.clients: list[Client] = []
        self.tasks = Tasks()
        [process] = supervisor._serving.values()
        self.pid = process.pid

    def resident(self) -> int:
        """Return the worker's resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]) * 4096

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    async def client(self, window: int = 0) -> Client:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        await loop.sock_connect(sock, ("127.0.0.1", self.supervisor.http_port))
        _, client = await loop.create_connection(Client, sock=sock)
        self.clients.append(client)
        return client

    async def settled(self) -> None:
        """Make the worker's memory what it is after some use, small and large."""
        self.endpoint.script, script = answering(reply(BLOCK * 16)), self.endpoint.script
        client = await self.client()
        for _ in range(20):
            assert (await client.get()).status == 200
        client.close()
        self.endpoint.script = script
        # Connections of the other script are not to be used again.
        for peer in self.endpoint.peers:
            peer.close()
        self.endpoint.peers.clear()


@pytest.fixture
async def stage(capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Stage]:
    endpoint = Endpoint(echoing)
    await endpoint.start()
    supervisor = Supervisor(settings(workers=1))
    await supervisor.start()
    await supervisor.apply(snapshot(endpoint.port))
    stage = Stage(supervisor, endpoint)
    yield stage
    await stage.tasks.close()
    for client in stage.clients:
        client.transport.abort()
    await supervisor.close()
    await endpoint.close()
    # The worker writes to our standard error.
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("Traceback")] == []
    assert endpoint.faults == []


async def send_blocks(peer: Peer, count: int, *, chunked: bool) -> None:
    for _ in range(count):
        if peer.how:
            raise Truncated(peer.how)
        peer.send(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK)
        await peer.flush()
    if chunked:
        peer.send(b"0\r\n\r\n")


def sending(blocks: int, *, chunked: bool) -> Script:
    """Return a script that answers with `blocks` blocks, as fast as they are taken."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (blocks * len(BLOCK))

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
            await send_blocks(peer, blocks, chunked=chunked)

    return script


class Digest:
    """Hashes the payload that a peer reads, of a body with a length, and drops it."""

    def __init__(self, peer: Peer) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        peer.sink = self.take

    def take(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)


def expected(blocks: int) -> str:
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)
    return digest.hexdigest()


async def test_a_download_larger_than_any_buffer_passes_a_client_that_stops_and_goes_on(stage: Stage) -> None:
    blocks = 1536  # 96 MiB
    stage.endpoint.script = sending(blocks, chunked=False)
    await stage.settled()
    base = stage.resident()
    client = await stage.client(window=65536)
    client.send(GET)
    await client.until(b"\r\n\r\n")
    client.hold()
    digest = Digest(client)
    digest.take(client.unread)
    peer = stage.endpoint.peers[0]
    await eventually(lambda: not peer._writable.is_set(), what="the endpoint is held up")
    await asyncio.sleep(0.2)  # Time to take more than it may, if it would.
    assert stage.resident() < base + ALLOWED
    client.go_on()
    while digest.size < blocks * len(BLOCK):
        assert client.how == ""
        assert stage.resident() < base + ALLOWED
        await asyncio.sleep(0.05)
    assert digest.hash.hexdigest() == expected(blocks)


async def test_an_upload_larger_than_any_buffer_passes_an_endpoint_that_stops_and_goes_on(stage: Stage) -> None:
    blocks = 1536  # 96 MiB
    gate = asyncio.Event()
    digests: list[Digest] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.hold()
        digests.append(digest := Digest(peer))
        digest.take(peer.unread)
        await gate.wait()
        peer.go_on()
        await peer.wait(lambda: digest.size == blocks * len(BLOCK))
        peer.send(reply(digest.hash.hexdigest().encode()))

    stage.endpoint.script = script
    await stage.settled()
    base = stage.resident()
    client = await stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (blocks * len(BLOCK)))

    async def upload() -> None:
        await send_blocks(client, blocks, chunked=False)

    async with asyncio.TaskGroup() as group:
        group.create_task(upload())
        await eventually(lambda: digests and not client._writable.is_set(), what="the client is held up")
        await asyncio.sleep(0.2)  # Time to take more than it may, if it would.
        assert stage.resident() < base + ALLOWED
        gate.set()
    assert (await client.response()).body.decode() == expected(blocks)
    assert stage.resident() < base + ALLOWED


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_chunked_download_larger_than_any_buffer_is_framed_anew_and_whole(stage: Stage, version: bytes) -> None:
    blocks = 512  # 32 MiB
    stage.endpoint.script = sending(blocks, chunked=True)
    await stage.settled()
    base = stage.resident()
    client = await stage.client()
    client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    body = (await client.response()).body
    assert hashlib.sha256(body).hexdigest() == expected(blocks)
    assert stage.resident() < base + ALLOWED


async def test_a_chunked_upload_larger_than_any_buffer_arrives_whole(stage: Stage) -> None:
    blocks = 512  # 32 MiB

    async def script(peer: Peer) -> None:
        request = await peer.request()
        peer.send(reply(hashlib.sha256(request.body).hexdigest().encode()))

    stage.endpoint.script = script
    await stage.settled()
    base = stage.resident()
    client = await stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await send_blocks(client, blocks, chunked=True)
    assert (await client.response()).body.decode() == expected(blocks)
    assert stage.resident() < base + ALLOWED


class Payload:
    """Sums up the payload of a body that a peer reads, and drops it."""

    def __init__(self, peer: Peer, framing: Framing, rest: bytes) -> None:
        self.size = 0
        self.sum = 0
        self.framing = framing
        peer.sink = self.take
        self.take(rest)

    def take(self, data: bytes) -> None:
        pieces: list[bytes] = []
        self.framing.take(data, pieces)
        for piece in pieces:
            self.size += len(piece)
            self.sum = zlib.crc32(piece, self.sum)


GIB = 1 << 30


def gibibyte() -> int:
    """Return the sum of 1 GiB of blocks."""
    total = 0
    for _ in range(GIB // len(BLOCK)):
        total = zlib.crc32(BLOCK, total)
    return total


def framed(*, chunked: bool) -> tuple[bytes, Framing]:
    """Return the field that frames 1 GiB, and what reads it."""
    if chunked:
        return b"Transfer-Encoding: chunked", Chunked(Limits())
    return b"Content-Length: %d" % GIB, Length(GIB)


async def highest_until(stage: Stage, claim: Callable[[], bool]) -> int:
    """Wait for `claim` and return the most memory that the worker had until then."""
    highest = 0
    async with asyncio.timeout(120):
        while not claim():
            highest = max(highest, stage.resident())
            await asyncio.sleep(0.01)
    return highest


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_download_of_a_gibibyte_arrives_whole_and_costs_no_memory(stage: Stage, chunked: bool) -> None:
    stage.endpoint.script = sending(GIB // len(BLOCK), chunked=chunked)
    await stage.settled()
    base = stage.resident()
    client = await stage.client()
    client.send(GET)
    await client.until(b"\r\n\r\n")
    payload = Payload(client, framed(chunked=chunked)[1], client.unread)
    assert await highest_until(stage, lambda: payload.framing.done or client.how != "") < base + ALLOWED
    assert (payload.size, payload.sum) == (GIB, gibibyte())


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_of_a_gibibyte_arrives_whole_and_costs_no_memory(stage: Stage, chunked: bool) -> None:
    field, framing = framed(chunked=chunked)

    async def script(peer: Peer) -> None:
        await peer.head()
        payload = Payload(peer, framing, peer.unread)
        while not payload.framing.done:  # noqa: ASYNC110 - the reader is no task
            await asyncio.sleep(0.01)
        peer.sink = None
        peer.send(reply(b"%d %d" % (payload.size, payload.sum)))

    stage.endpoint.script = script
    await stage.settled()
    base = stage.resident()
    client = await stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % field)
    async with asyncio.TaskGroup() as group:
        group.create_task(send_blocks(client, GIB // len(BLOCK), chunked=chunked))
        assert await highest_until(stage, lambda: bool(client.received)) < base + ALLOWED
    assert (await client.response()).body == b"%d %d" % (GIB, gibibyte())


async def test_a_hundred_clients_that_ask_for_much_and_read_nothing_cost_little(stage: Stage) -> None:
    stage.endpoint.script = sending(320, chunked=False)  # 20 MiB
    await stage.settled()
    base = stage.resident()
    clients = [await stage.client(window=4096) for _ in range(100)]
    for client in clients:
        client.hold()
        client.send(GET)
    await eventually(lambda: len(stage.endpoint.peers) == 100, what="all are asked for")
    await eventually(lambda: not any(peer._writable.is_set() for peer in stage.endpoint.peers), what="all are held up")
    # For each the 64 KiB that may wait, and the one read (libuv's are 256 KiB) that passed them: 31 MiB of the 2 GiB.
    assert stage.resident() < base + 40 * MIB
    stage.endpoint.script = echoing
    assert (await (await stage.client()).get("/other")).body == b"/other"


async def test_fifty_uploads_to_a_deaf_endpoint_cost_little(stage: Stage) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.head()
        peer.hold()

    stage.endpoint.script = deaf
    await stage.settled()
    base = stage.resident()
    clients = [await stage.client() for _ in range(50)]
    for client in clients:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20971520\r\n\r\n")
        stage.tasks.spawn(send_blocks(client, 320, chunked=False), "upload")
    await eventually(lambda: not any(client._writable.is_set() for client in clients), what="all are held up")
    # As above, for 50: 16 MiB of the 1 GiB.
    assert stage.resident() < base + 20 * MIB
    stage.endpoint.script = echoing
    assert (await (await stage.client()).get("/other")).body == b"/other"


async def test_half_sent_heads_cost_little(stage: Stage) -> None:
    await stage.settled()
    base = stage.resident()
    count = 3000
    clients = [await stage.client() for _ in range(count)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    await eventually(lambda: stage.descriptors() > count)
    assert (await (await stage.client()).get("/other")).body == b"/other"
    assert stage.resident() < base + count * 20_000


async def test_a_thousand_clients_that_leave_cost_no_descriptor_and_no_memory(stage: Stage) -> None:
    stage.endpoint.script = sending(64, chunked=False)  # 4 MiB
    await stage.settled()
    requests = (GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf", b"GET / HT")

    async def leave(count: int) -> None:
        for number in range(count):
            client = await stage.client()
            client.send(requests[number % 3])
            if number % 2 and number % 3 == 0:
                await client.wait(lambda: client.size > 0)  # noqa: B023 - awaited at once
            client.reset()
        stage.clients.clear()

    def own() -> int:
        """Return how many descriptors the worker has beside its connections to the endpoint."""
        return stage.descriptors() - stage.endpoint.open

    await leave(100)
    for _ in range(3):
        base, resident = own(), stage.resident()
        await asyncio.sleep(0.1)
    await leave(1000)
    await eventually(lambda: own() <= base, what="every descriptor is closed")
    assert stage.resident() < resident + ALLOWED


async def test_an_endpoint_that_answers_early_and_hangs_up_is_heard_through_its_reset(stage: Stage) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.hold()
        peer.send(reply(b"no", b"413 Too Large"))
        peer.close()  # With unread data on its side: the kernel sends RST.

    stage.endpoint.script = script
    await stage.settled()
    for _ in range(30):
        client = await stage.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + BLOCK * 40)
        response = await client.response()
        assert (response.status, response.closes) == (413, True)
        client.close()
