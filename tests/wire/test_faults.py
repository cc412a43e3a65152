"""Faults that no other file is about: clocks that jump, certificates that turn to garbage, and a great many bytes."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from pathlib import Path

import pytest

from certs import certificate, common_name
from eventually import eventually
from portway_proxy.snapshot import Certificate, Snapshot
from portway_proxy.supervisor import Supervisor
from portway_proxy.tasks import Tasks
from wire.parts import free_port, pids, running, serve_web, settings, snapshot
from wire.peers import OK, Client, Peer
from wire.site import Net, waits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
DAY = 86_400
GIB = 1 << 30
BLOCK = random.Random(6).randbytes(1 << 20)
TWICE = memoryview(BLOCK * 2)


@pytest.mark.parametrize("jump", [DAY, -DAY, 400 * 365 * DAY, -(50 * 365 * DAY)])
async def test_a_wall_clock_that_jumps_ends_nothing_and_delays_nothing(
    net: Net, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await gate.wait()
            peer.send(OK)

    gate = asyncio.Event()
    site, endpoint, client = await net.pair(script)
    idle = await net.client(site)
    client.send(GET)
    while not endpoint.received:  # noqa: ASYNC110 - until the request is under way
        await asyncio.sleep(0.01)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    site.later(5)
    gate.set()
    assert (await client.response()).status == 200
    idle.send(GET)
    assert (await idle.response()).status == 200
    assert len(endpoint.peers) == 1
    # And what is to end does, by the clock that cannot jump.
    site.later(80)
    assert (await client.end(), await idle.end()) == ("eof", "eof")


async def test_all_of_fifty_half_sent_heads_are_cut_off_in_their_time(net: Net) -> None:
    site, endpoint, other = await net.pair(timeouts=waits(head=5))
    clients: list[Client] = [await net.client(site) for _ in range(50)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    assert (await other.get("/other")).body == b"/other"
    assert not any(client.how for client in clients)
    site.later(6)
    for client in clients:
        assert (await client.response()).status == 408
        assert await client.end() == "eof"
    assert (await other.get("/other")).body == b"/other"
    assert [received.count(b"GET ") for received in endpoint.received] == [2]


# --- much


class Exact:
    """Reads a stream that repeats `BLOCK` and notices the first byte that is another."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)

    async def send(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(size // len(BLOCK)):
            await loop.sock_sendall(self.sock, BLOCK)
        self.sock.shutdown(socket.SHUT_WR)

    async def receive(self) -> int:
        """Return how many bytes came until the other side ended."""
        loop, buffer, size = asyncio.get_running_loop(), memoryview(bytearray(len(BLOCK))), 0
        while count := await loop.sock_recv_into(self.sock, buffer):
            place = size % len(BLOCK)
            assert buffer[:count] == TWICE[place : place + count]
            size += count
        return size


async def test_a_gibibyte_each_way_at_once_passes_layer_4_whole_and_memory_stays_flat() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    async with asyncio.timeout(120), running(settings(workers=1)) as proxy:
        port = free_port()
        await proxy.apply(snapshot(0, echo_port=listening.getsockname()[1], ports=[port]))
        [pid] = pids(proxy)
        client = Exact(socket.create_connection(("127.0.0.1", port)))
        endpoint = Exact((await asyncio.get_running_loop().sock_accept(listening))[0])
        before, descriptors = resident(pid), descriptors_of(pid)
        down, up, *_ = await asyncio.gather(client.receive(), endpoint.receive(), client.send(GIB), endpoint.send(GIB))
        assert (down, up) == (GIB, GIB)
        assert resident(pid) < before + (4 << 20)
        client.sock.close()
        endpoint.sock.close()
        # Both sockets and every pipe are closed again; pipes that wait for the next relay may stay.
        await eventually(lambda: descriptors_of(pid) <= descriptors + 2)
    listening.close()


def descriptors_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096


# --- certificates


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def shown(proxy: Supervisor, name: str) -> tuple[str, bool]:
    """Return whose certificate a client gets that asks for `name`, and whether its GET is answered with 200."""
    async with asyncio.timeout(15):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", proxy.https_port, ssl=trusting(), server_hostname=name
        )
        whose = common_name(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        response = await reader.read()
        writer.close()
        await writer.wait_closed()
    return whose, response.startswith(b"HTTP/1.1 200 ")


async def test_certificates_that_turn_to_garbage_under_load_fail_no_handshake_of_any_host(
    capfd: pytest.CaptureFixture[str],
) -> None:
    shop, other = certificate("shop/web", "shop.example"), certificate("other/web", "other.example")
    garbage = [
        Certificate(shop.name, shop.hosts, b"garbage", shop.key, 0),
        Certificate(shop.name, shop.hosts, shop.chain, b"garbage", 0),
        Certificate(shop.name, shop.hosts, shop.chain, other.key, 0),
        Certificate(shop.name, shop.hosts, b"", b"", 0),
    ]
    tasks, seen, done = Tasks(), set[tuple[str, str, bool]](), False

    async def load(name: str) -> None:
        while not done:
            seen.add((name, *await shown(proxy, name)))

    async with serve_web() as web, running(settings()) as proxy:

        def serving(first: Certificate) -> Snapshot:
            return snapshot(web.port, certificates=[first, other], default_certificate=other.name)

        await proxy.apply(serving(shop))
        loads = [tasks.spawn(load(name), name) for name in ("shop.example", "other.example")]
        for bad in garbage * 5:
            await proxy.apply(serving(bad))
            await proxy.apply(serving(shop))
        done = True
        await asyncio.gather(*loads)
    # Its own host has the default meanwhile; the other one never sees anything of it.
    assert seen <= {
        ("shop.example", "shop.example", True),
        ("shop.example", "other.example", True),
        ("other.example", "other.example", True),
    }
    assert ("other.example", "other.example", True) in seen
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "PRIVATE KEY" not in err
